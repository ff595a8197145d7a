"""Folders of backbone features, as SynSE, PURLS and their followers share them.

`<side>.npy` `[N, n, T', V]` (or `[N, n]`, pooled) with `<side>_label.npy` `[N]`, class ids of the
whole dataset. Sides are train, val and test; SynSE's gtest (seen and unseen classes) and ztest
(unseen ones) serve as test, and PURLS's `<side>_feature.npy` with `<side>_labels.npy` are read too.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.cleaning import content_hash
from data_pipelines.corpus import TEST, TRAIN, Corpus
from data_pipelines.errors import DataError
from data_pipelines.formats.gcn_arrays import whole_labels
from data_pipelines.formats.npy import read_npy
from data_pipelines.protocols import Protocol, published_splits
from data_pipelines.skeletons import Skeleton

# Stems of a side's features and labels, in the spellings that are about; the first that is there
# counts. SynSE's gtest holds the clips of its ztest.
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
    """Reads the sides that are there.

    Train and val together are what may be trained on. Where the test file has none of train's
    classes, though, val is what is known of their test clips, as the literature uses it.

    Args:
      name, class_names, skeleton: of the dataset that the features are of.

    Raises:
      FileNotFoundError: no training or no test features.
      DataError: shapes or labels do not fit.
    """
    sides = _read_sides(folder, len(class_names))
    seen_in_test = np.isin(sides["test"][1], sides["train"][1]).any()
    roles = {"train": TRAIN, "val": TRAIN if seen_in_test else TEST, "test": TEST}
    tokens = np.concatenate([tokens for tokens, _ in sides.values()])
    labels = np.concatenate([labels for _, labels in sides.values()])
    codes = [np.full(len(own), roles[side], np.int8) for side, (_, own) in sides.items()]
    there = tokens.any(axis=(1, 2, 3))  # recordings without a skeleton come as rows of zeros
    nothing = np.zeros(int(there.sum()), np.int32)
    notes = {"features read, no clips": len(nothing), "dropped, all zero": int((~there).sum())}
    corpus = Corpus(
        name=name,
        skeleton=skeleton,
        class_names=class_names,
        clips=(),
        labels=labels[there],
        subjects=nothing,
        views=nothing,
        setups=nothing,
        clip_ids=tuple(f"feature{row:06d}" for row in np.flatnonzero(there)),
        frames=nothing,
        persons=nothing,
        hashes=np.array([content_hash(row) for row in tokens[there]]),
        sides={"given": np.concatenate(codes)[there]},
        splits=published_splits(name),
        notes={note: count for note, count in notes.items() if count},
    )
    return Features(corpus, tokens[there])


def _read_sides(folder: Path, num_classes: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Side to its tokens and labels."""
    sides = {}
    for side, candidates in _FILES.items():
        found = [pair for pair in candidates if (folder / f"{pair[0]}.npy").exists()]
        if found:
            features, labels = (folder / f"{stem}.npy" for stem in found[0])
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
        label = label[1]  # names and labels, as 2s-AGCN pairs them
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
        raise DataError("expected the labels of this side, found no such file", file)
    with file.open("rb") as stream:
        return read_npy(stream, file.stat().st_size, file)


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
