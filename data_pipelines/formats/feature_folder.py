"""Folders of backbone features, in the format of SynSE, PURLS and later papers.

Files: `<side>.npy` `[N, n, T', V]` (or `[N, n]`, pooled) with `<side>_label.npy` `[N]`, class ids
of the whole dataset. Sides are train, val and test. Other names are read too: SynSE's gtest (seen
and unseen classes) or ztest (unseen classes) as test, and PURLS's `<side>_feature.npy` with
`<side>_labels.npy`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.builders.base import Dataset
from data_pipelines.cleaning import content_hash
from data_pipelines.corpus import PREDEFINED, TEST, TRAIN, Corpus
from data_pipelines.errors import DataError
from data_pipelines.formats.gcn_arrays import whole_labels
from data_pipelines.protocols import Protocol
from data_pipelines.untrusted import inside, map_npy

# File stems of each side's features and labels in order of preference.
# SynSE's gtest contains the clips of its ztest.
_FILES = {
    "train": (("train", "train_label"), ("train_feature", "train_labels")),
    "val": (("val", "val_label"), ("val_feature", "val_labels")),
    "test": (
        ("test", "test_label"),
        ("test_feature", "test_labels"),
        ("gtest", "g_label"),
        ("ztest", "z_label"),
    ),
}


@dataclass(frozen=True)
class Features:
    """Features of a dataset without its clips.

    Attributes:
      corpus: labels, sides and counts, without clips.
      tokens: `[N, T', V, n]`.
    """

    corpus: Corpus
    tokens: Float[np.ndarray, "N segments V n"]


def read_features(folder: Path, dataset: Dataset) -> Features:
    """Reads all sides of a folder.

    Train and val together are the training clips. If the test file has none of train's classes, val
    has the test clips of seen classes instead, as in the literature.

    Args:
      dataset: dataset of the features.

    Raises:
      FileNotFoundError: there are no training or no test features.
      DataError: shapes or labels do not match.
    """
    sides = _read_sides(folder, len(dataset.CLASSES))
    seen_in_test = np.isin(sides["test"][1], sides["train"][1]).any()
    roles = {"train": TRAIN, "val": TRAIN if seen_in_test else TEST, "test": TEST}
    tokens = np.concatenate([tokens for tokens, _ in sides.values()])
    labels = np.concatenate([labels for _, labels in sides.values()])
    codes = [np.full(len(part), roles[side], np.int8) for side, (_, part) in sides.items()]
    kept = tokens.any(axis=(1, 2, 3))  # a recording without a skeleton has features of zeros
    nothing = np.zeros(int(kept.sum()), np.int32)
    notes = {"features read, no clips": len(nothing), "dropped, all zero": int((~kept).sum())}
    corpus = Corpus(
        name=dataset.name,
        descriptions=dataset.descriptions,
        skeleton=dataset.SKELETON,
        class_names=dataset.CLASSES,
        clips=(),
        labels=labels[kept],
        subjects=nothing,
        views=nothing,
        setups=nothing,
        clip_ids=tuple(f"feature{index:06d}" for index in np.flatnonzero(kept)),
        frames=nothing,
        persons=nothing,
        hashes=np.array([content_hash(token) for token in tokens[kept]]),
        sides={PREDEFINED: np.concatenate(codes)[kept]},
        splits=dataset.splits,
        notes={note: count for note, count in notes.items() if count},
    )
    return Features(corpus, tokens[kept])


def _read_sides(folder: Path, num_classes: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tokens and labels of each side."""
    sides = {}
    for side, candidates in _FILES.items():
        found = [stems for stems in candidates if (folder / f"{stems[0]}.npy").exists()]
        if found:
            features, labels = (inside(folder, folder / f"{stem}.npy") for stem in found[0])
            sides[side] = _read_side(features, labels, num_classes)
        elif side != "val":
            names = " or ".join(f"{stem}.npy" for stem, _ in candidates)
            raise FileNotFoundError(f"{folder}: expected features in {names}, found none")
    shapes = {side: list(tokens.shape[1:]) for side, (tokens, _) in sides.items()}
    if any(shape != shapes["train"] for shape in shapes.values()):
        raise DataError(f"expected features of one shape, got {shapes}", folder)
    return sides


def _read_side(file: Path, label_file: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, label = _as_tokens(_load(file), file), _load(label_file)
    paired = label.dtype.kind in "US" or len(tokens) != 2
    if label.ndim == 2 and len(label) == 2 and paired:
        label = label[1]  # a pair of names and labels, as written by 2s-AGCN
    label = whole_labels(label, label_file).astype(np.int32)
    if len(label) != len(tokens):
        raise DataError(f"expected {len(tokens)} labels, got {len(label)}", label_file)
    if len(label) and not 0 <= label.min() <= label.max() < num_classes:
        raise DataError(
            f"expected labels from 0 to {num_classes - 1}, got {label.min()} to {label.max()}",
            label_file,
        )
    return tokens, label


def _load(file: Path) -> np.ndarray:
    if not file.exists():
        raise DataError("expected the labels of this side, the file does not exist", file)
    return map_npy(file)


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


def write_features(
    folder: Path, tokens: np.ndarray, labels: np.ndarray, protocol: Protocol
) -> None:
    """Writes train, val and test (seen and unseen classes) of a protocol.

    Args:
      tokens: `[N, T', V, n]` of the whole corpus, may be memory-mapped.
      labels: `[N]` class ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    test = np.sort(np.concatenate([protocol.seen_test, protocol.unseen_test]))
    for side, indices in (("train", protocol.train), ("val", protocol.val), ("test", test)):
        np.save(folder / f"{side}.npy", tokens[indices].transpose(0, 3, 1, 2).astype(np.float32))
        np.save(folder / f"{side}_label.npy", labels[indices].astype(np.int64))
