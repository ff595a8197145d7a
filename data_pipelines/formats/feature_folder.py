"""Folders of backbone features, as SynSE, PURLS and their followers share them.

`<side>.npy` `[N, n, T', V]` (or `[N, n]`, pooled) with `<side>_label.npy` `[N]`, class ids of the
whole dataset. Sides are train, val and test; SynSE's gtest (seen and unseen classes) and ztest
(unseen ones) serve as test.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.cleaning import content_hash
from data_pipelines.corpus import TEST, TRAIN, Corpus
from data_pipelines.errors import DataError
from data_pipelines.protocols import Protocol, published_splits
from dynapurls_jax.skeletons import Skeleton

# Of the test files the first that is there: SynSE's gtest holds the clips of its ztest.
_FILES = {
    "train": (("train", "train_label"),),
    "val": (("val", "val_label"),),
    "test": (("test", "test_label"), ("gtest", "g_label"), ("ztest", "z_label")),
}


@dataclass(frozen=True)
class Features:
    """Features of a dataset whose clips are not here.

    Attributes:
      corpus: all that is known of the clips, without the clips.
      tokens: `[N, T', V, n]`.
    """

    corpus: Corpus
    tokens: Float[np.ndarray, "N segments V n"]


def read_features(
    folder: Path, name: str, class_names: tuple[str, ...], skeleton: Skeleton
) -> Features:
    """Reads the sides that are there; train and val together are what may be trained on.

    Args:
      name, class_names, skeleton: of the dataset that the features are of.

    Raises:
      FileNotFoundError: no training or no test features.
      DataError: shapes or labels do not fit.
    """
    tokens, labels, sides = [], [], []
    for side, candidates in _FILES.items():
        found = [pair for pair in candidates if (folder / f"{pair[0]}.npy").exists()]
        if not found and side != "val":
            names = " or ".join(f"{pair[0]}.npy" for pair in candidates)
            raise FileNotFoundError(f"{folder}: expected features in {names}, found none")
        for pair in found[:1]:
            array, label = (_load(folder / f"{stem}.npy") for stem in pair)
            file = folder / f"{pair[0]}.npy"
            tokens.append(_as_tokens(array, file))
            if label.shape != array.shape[:1] or label.dtype.kind not in "iu":
                raise DataError(
                    f"expected {len(array)} whole-number labels in {pair[1]}.npy, "
                    f"got {list(label.shape)} {label.dtype}",
                    file,
                )
            labels.append(label.astype(np.int32))
            sides.append(np.full(len(array), TEST if side == "test" else TRAIN, np.int8))
            if tokens[-1].shape[1:] != tokens[0].shape[1:]:
                raise DataError(f"expected features like those of train, got {array.shape}", file)
    label = np.concatenate(labels)
    if len(label) and not 0 <= label.min() <= label.max() < len(class_names):
        raise DataError(
            f"expected labels from 0 to {len(class_names) - 1}, got {label.min()} to {label.max()}",
            folder,
        )
    nothing = np.zeros(len(label), np.int32)
    stacked = np.concatenate(tokens)
    corpus = Corpus(
        name=name,
        skeleton=skeleton,
        class_names=class_names,
        clips=(),
        labels=label,
        subjects=nothing,
        views=nothing,
        setups=nothing,
        clip_ids=tuple(f"feature{row:06d}" for row in range(len(label))),
        frames=nothing,
        persons=nothing,
        hashes=np.array([content_hash(row) for row in stacked]),
        sides={"given": np.concatenate(sides)},
        splits=published_splits(name),
        notes={"features read, no clips": len(label)},
    )
    return Features(corpus, stacked)


def _load(file: Path) -> np.ndarray:
    if not file.exists():
        raise DataError("expected the labels of this side, found no such file", file)
    try:
        return np.load(file)  # refuses pickled objects
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"not a readable npy file ({error})", file) from error


def _as_tokens(array: np.ndarray, file: Path) -> np.ndarray:
    """`[N, n, T', V]` or `[N, n]` to `[N, T', V, n]`."""
    if array.ndim == 2:
        array = array[:, :, None, None]
    if array.ndim != 4 or array.dtype.kind != "f":
        raise DataError(
            f"expected features [N, n, T', V] or [N, n], got {list(array.shape)} {array.dtype}",
            file,
        )
    if not np.isfinite(array).all():
        raise DataError(f"clip {np.argwhere(~np.isfinite(array))[0][0]} is not finite", file)
    return array.transpose(0, 2, 3, 1)


def write_features(folder: Path, tokens: np.ndarray, labels: np.ndarray, sides: Protocol) -> None:
    """Writes train, val and test (seen and unseen classes) of a protocol.

    Args:
      tokens: `[N, T', V, n]` of the whole corpus, perhaps on disk.
      labels: `[N]` class ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    test = np.sort(np.concatenate([sides.seen_test, sides.unseen_test]))
    for side, rows in (("train", sides.train), ("val", sides.val), ("test", test)):
        np.save(folder / f"{side}.npy", tokens[rows].transpose(0, 3, 1, 2).astype(np.float32))
        np.save(folder / f"{side}_label.npy", labels[rows].astype(np.int64))
