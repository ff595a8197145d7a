"""Corpora of several sources, encoded in one feature space for the universal model."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int

from data_pipelines.cleaning import clean
from data_pipelines.clip_files import load_clips
from data_pipelines.conventions import Declared, find_conventions, to_project
from data_pipelines.datasets import load_corpus
from data_pipelines.errors import DataError
from data_pipelines.formats.raw import RawClip
from data_pipelines.layouts import COMMON
from data_pipelines.logs import log
from data_pipelines.prepared import prepare_clip
from data_pipelines.settings import DataSettings
from data_pipelines.skeletons import Skeleton, map_joints
from dynapurls_jax.encoders.posture import Posture
from dynapurls_jax.registry import NoSettings

CLIP_SHAPE = (1, 32)  # persons and frames of a clip
TEMPORAL_SAMPLING = "upright"
_BATCH = 256


@dataclass(frozen=True)
class EncodedCorpus:
    """The tokens and labels of a corpus.

    Attributes:
      name: name of the archive or dataset.
      tokens: `[N, S, n]`.
      labels: `[N]` indices into `class_names`; every class has at least one clip.
    """

    name: str
    tokens: Float[np.ndarray, "N S n"]
    labels: Int[np.ndarray, " N"]
    class_names: tuple[str, ...]


def posture() -> Posture:
    """The parameter-free encoder `posture` for the joints of the common skeleton."""
    return Posture(NoSettings(), COMMON)


@cache
def token_width() -> int:
    """The token width `n`."""
    clip = jax.ShapeDtypeStruct((1, *CLIP_SHAPE, COMMON.num_joints, 3), np.float32)
    return jax.eval_shape(posture().tokens, clip).shape[-1]


def archive_corpus(file: Path) -> EncodedCorpus:
    """Encodes the labelled clips of an archive; prints the number of clips that were skipped.

    Raises:
      DataError: the archive has no labelled clip.
    """
    found, names, bad = [], [], 0
    for clip in load_clips(file):
        if isinstance(clip, str) or clip.label is None:
            bad += 1
            continue
        found.append(prepared(clip.joints, COMMON))
        names.append(clip.label)
    if not found:
        raise DataError(f"expected labelled clips, got none among {bad}", file)
    log.info(f"{file.stem}: {len(found)} clips, {bad} skipped")
    return _encoded(file.stem, np.stack(found), np.array(names))


def dataset_corpus(name: str, manual_dir: Path) -> EncodedCorpus:
    """Encodes all clips of a public dataset, with axes and units found as for clip files.

    Args:
      manual_dir: folder of the archive that the dataset's owner provides.
    """
    corpus = load_corpus(DataSettings(name, str(manual_dir)))
    joints = [map_joints(corpus.clips[n], corpus.skeleton, COMMON) for n in range(len(corpus))]
    conventions = find_conventions(joints, Declared())
    clips = np.stack([prepared(to_project(one, conventions), COMMON) for one in joints])
    log.info(f"{name}: {len(clips)} clips")
    return _encoded(name, clips, np.array(corpus.class_names)[corpus.labels])


def prepared(clip: Float[np.ndarray, "m t v 3"], skeleton: Skeleton) -> np.ndarray:
    """The first person of a clip, in metres, as the encoder's input `[1, T, 20, 3]`."""
    joints = clean(RawClip("", clip[:1], 0)).joints
    return prepare_clip(joints, skeleton, COMMON, TEMPORAL_SAMPLING, CLIP_SHAPE)


def encoded(clips: Float[np.ndarray, "N M T V 3"]) -> Float[np.ndarray, "N S n"]:
    """Tokens of prepared clips."""
    encode = jax.jit(posture().tokens)
    chunks = [np.asarray(encode(batch)) for batch in _batches(clips)]
    tokens = np.concatenate(chunks)[: len(clips)]
    return tokens.reshape(len(tokens), -1, tokens.shape[-1])


def _batches(clips: np.ndarray) -> Iterator[np.ndarray]:
    """Batches of one size; the last is padded with copies of the first clip."""
    for start in range(0, len(clips), _BATCH):
        batch = clips[start : start + _BATCH]
        yield np.concatenate([batch, np.repeat(clips[:1], _BATCH - len(batch), axis=0)])


def _encoded(name: str, clips: np.ndarray, titles: np.ndarray) -> EncodedCorpus:
    names, labels = np.unique(titles, return_inverse=True)
    return EncodedCorpus(name, encoded(clips), labels, tuple(map(str, names)))
