"""The training arrays of skeleton GCNs, padded with zeros.

Format of 2s-AGCN: `<side>_data_joint.npy` `[N, C, T, V, M]` with `<side>_label.pkl`, a pair of
names and labels. Format of CTR-GCN: one `.npz` with `x_<side>` `[N, T, M * V * C]` and one-hot
`y_<side>`. Sides are train and test; 2s-AGCN calls the latter val.
"""

import pickle
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from data_pipelines.atomic import replacing
from data_pipelines.corpus import NEITHER, PREDEFINED, TEST, TRAIN, Corpus
from data_pipelines.errors import DataError
from data_pipelines.formats.ntu import named_clip
from data_pipelines.formats.raw import RawClip, checked, checked_label
from data_pipelines.progress import counted
from data_pipelines.sources import ArraySource
from data_pipelines.untrusted import array_names, inside, load_pickle, map_npy, read_npz

_OFFSET = (0.0, 0.0, 3.0)  # metres, added to centred clips; normalisation removes it
LABELS = "_label.pkl"  # suffix of a side's label file
SIDES = {"train": TRAIN, "val": TEST, "test": TEST}


@dataclass
class Block:
    """The padded clips of one side.

    Attributes:
      data: memory-mapped, `[N, C, T, V, M]` (2s-AGCN) or `[N, T, M * V * C]` (CTR-GCN).
      labels: `[N]` class ids.
      names: clip ids; numbered if the format has none.
    """

    data: np.ndarray
    labels: np.ndarray
    names: list[str]


class GcnArraySource(ArraySource):
    """The arrays of one protocol: a folder of npy and pkl files, or an npz."""

    @cached_property
    def _blocks(self) -> dict[str, Block]:
        blocks = _read_folder(self.path) if self.path.is_dir() else _read_npz(self.path)
        if not blocks:
            raise DataError("expected train_data_joint.npy, or x_train in an npz", self.path)
        names = [name for block in blocks.values() for name in block.names]
        if len(set(names)) < len(names):
            repeated = next(name for name, count in Counter(names).items() if count > 1)
            raise DataError(f"{repeated} occurs more than once, or on two sides", self.path)
        for side, block in blocks.items():
            if not len(block.data) == len(block.labels) == len(block.names):
                raise DataError(
                    f"side {side}: expected as many labels as clips, got {len(block.data)} clips, "
                    f"{len(block.labels)} labels and {len(block.names)} names",
                    self.path,
                )
        return blocks

    def items(self) -> dict[str, str]:
        blocks = self._blocks.items()
        names = [f"{side}|{index}" for side, block in blocks for index in range(len(block.data))]
        return dict.fromkeys(names, self.stamp())

    def read(self, item: str) -> list[RawClip]:
        side, _, number = item.partition("|")
        block, index = self._blocks[side], int(number)
        where = f"{self.path}, {side} clip {index}"
        clip = unpad(block.data[index], self.skeleton.num_joints, where)
        joints = checked(clip, where, self.skeleton.joints)
        label = checked_label(int(block.labels[index]), self.num_classes, where)
        return [named_clip(block.names[index], joints, label)]

    def sides(self, clip_ids: list[str]) -> dict[str, np.ndarray]:
        """The single protocol of the arrays."""
        side = {name: SIDES[key] for key, block in self._blocks.items() for name in block.names}
        return {PREDEFINED: np.array([side.get(clip, NEITHER) for clip in clip_ids], np.int8)}


def unpad(padded: np.ndarray, joints: int, where: str) -> np.ndarray:
    """Converts `[C, T, V, M]` or `[T, M * V * C]` to `[M, T, V, C]` without the padding.

    Args:
      joints: `V`.

    Raises:
      DataError: the array has another shape.
    """
    if padded.ndim == 4 and padded.shape[0] == 3 and padded.shape[2] == joints:
        clip = padded.transpose(3, 1, 2, 0)
    elif padded.ndim == 2 and padded.shape[1] and padded.shape[1] % (3 * joints) == 0:
        clip = padded.reshape(len(padded), -1, joints, 3).transpose(1, 0, 2, 3)
    else:
        raise DataError(
            f"expected [3, T, {joints}, M] or [T, M * {joints} * 3], got {list(padded.shape)}",
            where,
        )
    filled = np.flatnonzero((clip != 0).any(axis=(0, 2, 3)))
    clip = clip[:, : filled[-1] + 1 if len(filled) else 1]
    present = (clip != 0).any(axis=(2, 3))[..., None, None]
    if ((clip == 0).all(axis=-1, keepdims=True) & present).any():
        # Centred clips have a joint at the origin, which would count as untracked.
        clip = np.where(present, clip + np.array(_OFFSET, clip.dtype), 0)
    return clip


def padded_clips(file: Path) -> dict[str, np.ndarray]:
    """The clips of each side in a file of padded arrays, without labels; empty for other files.

    Returns:
      `[N, C, T, V, M]` for an npy, with the side ""; `[N, T, M * V * C]` for an npz.

    Raises:
      DataError: an array is damaged, or a decompression bomb.
    """
    if file.suffix == ".npy":
        array = map_npy(file)
        return {"": array} if array.ndim == 5 else {}
    if file.suffix != ".npz":
        return {}
    names = [f"x_{side}" for side in SIDES if f"x_{side}" in array_names(file)]
    return {name[2:]: array for name, array in read_npz(file, names).items()}


def _read_folder(folder: Path) -> dict[str, Block]:
    blocks = {}
    for side in SIDES:
        file = inside(folder, folder / f"{side}_data_joint.npy")
        labels_file = inside(folder, folder / f"{side}{LABELS}")
        if not file.exists():
            continue
        if not labels_file.exists():
            raise DataError(
                "expected the labels of this side, the file does not exist", labels_file
            )
        pair = load_pickle(labels_file)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError("expected a pair of names and labels", labels_file)
        names = [str(name).removesuffix(".skeleton") for name in pair[0]]
        labels = whole_labels(pair[1], labels_file)
        blocks[side] = Block(map_npy(file), labels, names)
    return blocks


def whole_labels(labels: Any, file: object) -> np.ndarray:
    """Class ids `[N]` from numbers, numbers as text, or one-hot rows.

    Raises:
      DataError: a label is not a whole number, or a row is not one-hot.
    """
    try:
        values = np.asarray(labels).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected labels, whole numbers ({error})", file) from error
    if values.ndim == 2:
        one_hot = np.isin(values, (0, 1)).all(axis=1) & (values.sum(axis=1) == 1)
        bad = np.flatnonzero(~one_hot)
        if len(bad):
            raise DataError(
                f"expected one-hot rows, row {bad[0]} adds up to {values[bad[0]].sum()}", file
            )
        return values.argmax(axis=1)
    if values.ndim != 1 or not (values == np.floor(values)).all():
        raise DataError(f"expected whole numbers [N], got {np.asarray(labels)!r:.200}", file)
    return values.astype(np.int64)


def _read_npz(file: Path) -> dict[str, Block]:
    blocks, names = {}, array_names(file)
    for side in (side for side in SIDES if f"x_{side}" in names):
        data, one_hot = read_npz(file, [f"x_{side}", f"y_{side}"]).values()
        labels = whole_labels(one_hot, f"{file}, y_{side}")
        blocks[side] = Block(data, labels, [f"{side}{index:06d}" for index in range(len(labels))])
    return blocks


def write_agcn(corpus: Corpus, protocol: str, folder: Path, frames: int = 300) -> None:
    """Writes one protocol as the four files of 2s-AGCN, padded with zeros.

    Args:
      protocol: one of `corpus.sides`.
      folder: folder for `{train,val}_data_joint.npy` and `{train,val}_label.pkl`.
      frames: `T`; longer clips are cut.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for side in ("train", "val"):
        indices = np.flatnonzero(corpus.sides[protocol] == SIDES[side])
        shape = (len(indices), 3, frames, corpus.skeleton.num_joints, 2)
        data = open_memmap(folder / f"{side}_data_joint.npy", "w+", np.float32, shape)
        for position, index in enumerate(counted(f"writing {side} clips", indices.tolist())):
            data[position] = _padded(corpus, index, frames).transpose(3, 1, 2, 0)
        data.flush()
        names = [corpus.clip_ids[index] for index in indices]
        pair = (names, corpus.labels[indices].tolist())
        (folder / f"{side}{LABELS}").write_bytes(pickle.dumps(pair, protocol=2))


def write_ctr_gcn(corpus: Corpus, protocol: str, file: Path, frames: int = 300) -> None:
    """Writes one protocol as the npz of CTR-GCN, padded with zeros.

    Args:
      protocol: one of `corpus.sides`.
      frames: `T`; longer clips are cut.
    """
    arrays: dict = {}
    scratch = []
    for side in ("train", "test"):
        indices = np.flatnonzero(corpus.sides[protocol] == SIDES[side])
        shape = (len(indices), frames, 2 * corpus.skeleton.num_joints * 3)
        # Temporary files: the clips of NTU RGB+D 120 would need 20 GB of memory.
        scratch.append(file.with_suffix(f".{side}.tmp"))
        data = open_memmap(scratch[-1], "w+", np.float32, shape)
        for position, index in enumerate(counted(f"writing {side} clips", indices.tolist())):
            padded = _padded(corpus, index, frames)
            data[position] = padded.transpose(1, 0, 2, 3).reshape(frames, -1)
        one_hot = np.eye(len(corpus.class_names), dtype=np.float32)[corpus.labels[indices]]
        arrays |= {f"x_{side}": data, f"y_{side}": one_hot}
    with replacing(file) as stream:
        np.savez(stream, **arrays)
    for temporary in scratch:
        temporary.unlink()


def _padded(corpus: Corpus, index: int, frames: int) -> np.ndarray:
    """A clip as `[2, frames, V, 3]`."""
    clip = corpus.clips[index][:2, :frames]
    room = ((0, 2 - len(clip)), (0, frames - clip.shape[1]), (0, 0), (0, 0))
    return np.pad(clip, room)
