"""All clips of a corpus in the shape and the frame that encoders take, as one array on disk."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_pipelines.array_store import open_or_make
from data_pipelines.corpus import Corpus
from data_pipelines.errors import unknown
from data_pipelines.ingest import num_cores
from data_pipelines.paths import data_home
from data_pipelines.preprocess import FIT
from data_pipelines.progress import progress
from data_pipelines.skeletons import SKELETONS, Skeleton, map_joints

VERSION = 1  # of everything that is done to a clip here
_CHUNK = 64


@dataclass(frozen=True)
class PreparedClips:
    """Clips ready for an encoder.

    Attributes:
      clips: `[N, M, T, V, 3]` float32, metres, in the order of the corpus, memory-mapped.
      skeleton: of the `V` joints.
      persons: `[N]` how many there are at most in each clip.
      ids: `N` names of the clips.
      version: of what was done to them.
    """

    clips: Float[np.ndarray, "N M T V 3"]
    skeleton: Skeleton
    persons: np.ndarray
    ids: tuple[str, ...]
    version: int = VERSION


def prepare(corpus: Corpus, frames: int, fit: str, joints: str = "") -> PreparedClips:
    """Opens the prepared clips, making them on first use below `data_home()`.

    Args:
      frames: `T`.
      fit: one of `FIT`.
      joints: name of a joint layout to map to; empty for the corpus's own.

    Raises:
      ValueError: no such fit, layout or mapping.
    """
    if fit not in FIT:
        raise unknown("data.fit", fit, FIT)
    if joints and joints not in SKELETONS:
        raise unknown("data.joints", joints, SKELETONS)
    target = SKELETONS[joints] if joints else corpus.skeleton
    made_from = {
        "version": VERSION,
        "corpus": corpus.digest,
        "frames": frames,
        "fit": fit,
        "joints": repr(target),
    }
    key = hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]
    folder = data_home() / "prepared" / f"{corpus.name}-T{frames}-{fit}-{key}"
    shape = (len(corpus), int(corpus.persons.max()), frames, target.num_joints, 3)

    def chunks(row: int) -> Iterator[np.ndarray]:
        gigabytes = 4 * np.prod(shape, dtype=np.int64) / 1e9
        print(f"preparing {len(corpus)} clips, {gigabytes:.2f} GB, in {folder}", flush=True)
        return _chunks(corpus, row, shape, fit, target)

    clips = open_or_make(folder, made_from, shape, np.float32, chunks)
    return PreparedClips(clips, target, np.asarray(corpus.persons), corpus.clip_ids)


def prepare_clip(
    clip: np.ndarray, skeleton: Skeleton, target: Skeleton, fit: str, shape: tuple[int, ...]
) -> np.ndarray:
    """One clip as an encoder takes it.

    Args:
      clip: `[m, t, v, 3]`, metres, cleaned.
      skeleton, target: its joints, and the encoder's.
      fit: one of `FIT`.
      shape: `(M, T)`, with `M >= m`.

    Returns:
      `[M, T, V, 3]` float32, metres.
    """
    clip = map_joints(FIT[fit](clip, skeleton, shape[1]), skeleton, target)
    return np.pad(clip, ((0, shape[0] - len(clip)), (0, 0), (0, 0), (0, 0)))


def _chunks(
    corpus: Corpus, first: int, shape: tuple, fit: str, target: Skeleton
) -> Iterator[np.ndarray]:
    """Clips from row `first` on, some at a time."""

    def one(index: int) -> np.ndarray:
        return prepare_clip(corpus.clips[index], corpus.skeleton, target, fit, shape[1:3])

    with (
        progress("preparing clips", len(corpus), first) as report,
        ThreadPoolExecutor(num_cores()) as pool,
    ):
        for start in range(first, len(corpus), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(corpus)))
            yield np.stack(list(pool.map(one, rows)))
            report(rows[-1] + 1)
