"""Prepared clips: all clips of a corpus as encoder inputs, in one array on disk."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_pipelines.array_store import open_or_make
from data_pipelines.corpus import Corpus
from data_pipelines.errors import check_choice
from data_pipelines.ingest import num_cores
from data_pipelines.logs import log
from data_pipelines.paths import data_home
from data_pipelines.progress import progress
from data_pipelines.skeletons import SKELETONS, Skeleton, map_joints
from data_pipelines.temporal_sampling import TEMPORAL_SAMPLING

VERSION = 2  # of the preparation of a clip
_CHUNK = 64


@dataclass(frozen=True)
class PreparedClips:
    """Clips ready for an encoder.

    Attributes:
      clips: `[N, M, T, V, 3]` float32, metres, in the order of the corpus, memory-mapped.
      skeleton: layout of the `V` joints.
      persons: `[N]` number of persons in each clip.
      ids: `N` clip ids.
      version: version of the preparation.
    """

    clips: Float[np.ndarray, "N M T V 3"]
    skeleton: Skeleton
    persons: np.ndarray
    ids: tuple[str, ...]
    version: int = VERSION


def prepare(corpus: Corpus, frames: int, temporal_sampling: str, joints: str = "") -> PreparedClips:
    """Opens the prepared clips; the first use makes them in `data_home()`.

    Args:
      frames: `T`.
      temporal_sampling: one of `TEMPORAL_SAMPLING`.
      joints: joint layout to map to; empty: the layout of the corpus.

    Raises:
      ValueError: unknown temporal sampling, layout or mapping.
    """
    check_choice("temporal_sampling", temporal_sampling, TEMPORAL_SAMPLING)
    check_choice("joints", joints, ("", *SKELETONS))
    target = SKELETONS[joints] if joints else corpus.skeleton
    made_from = {
        "version": VERSION,
        "corpus": corpus.digest,
        "frames": frames,
        "temporal_sampling": temporal_sampling,
        "joints": repr(target),
    }
    key = hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]
    folder = data_home() / "prepared" / f"{corpus.name}-T{frames}-{temporal_sampling}-{key}"
    shape = (len(corpus), int(corpus.persons.max()), frames, target.num_joints, 3)

    def chunks(first: int) -> Iterator[np.ndarray]:
        megabytes = 4 * np.prod(shape, dtype=np.int64) / 1e6
        log.info(f"preparing {len(corpus)} clips, {megabytes:.0f} MB, in {folder}")
        return _chunks(corpus, first, shape, temporal_sampling, target)

    clips = open_or_make(folder, made_from, shape, np.float32, chunks)
    return PreparedClips(clips, target, np.asarray(corpus.persons), corpus.clip_ids)


def prepare_clip(
    clip: np.ndarray,
    skeleton: Skeleton,
    target: Skeleton,
    temporal_sampling: str,
    shape: tuple[int, ...],
) -> np.ndarray:
    """Prepares one clip as input of an encoder.

    Args:
      clip: `[m, t, v, 3]`, metres, cleaned.
      skeleton, target: joint layouts of the clip and of the encoder.
      temporal_sampling: one of `TEMPORAL_SAMPLING`.
      shape: `(M, T)`, with `M >= m`.

    Returns:
      `[M, T, V, 3]` float32, metres.
    """
    sampled = TEMPORAL_SAMPLING[temporal_sampling](clip, skeleton, shape[1])
    mapped = map_joints(sampled, skeleton, target)
    return np.pad(mapped, ((0, shape[0] - len(mapped)), (0, 0), (0, 0), (0, 0)))


def _chunks(
    corpus: Corpus, first: int, shape: tuple, temporal_sampling: str, target: Skeleton
) -> Iterator[np.ndarray]:
    """Prepared clips in chunks, starting at index `first`."""

    def one(index: int) -> np.ndarray:
        clip = corpus.clips[index]
        return prepare_clip(clip, corpus.skeleton, target, temporal_sampling, shape[1:3])

    with (
        progress("preparing clips", len(corpus), first) as report,
        ThreadPoolExecutor(num_cores()) as pool,
    ):
        for start in range(first, len(corpus), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(corpus)))
            yield np.stack(list(pool.map(one, indices)))
            report(indices[-1] + 1)
