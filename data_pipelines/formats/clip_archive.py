"""Clip archives: the exchange format of clips, many clips of one skeleton in one npz.

Required array: `joints` `[sum T, V, 3]` or `[sum T, M, V, 3]`. Optional arrays: `lengths` `[N]`
(default: one clip), `label` `[N]` with `class_names` `[C]`, `subject` `[N]`, `clip_id` `[N]`, `fps`
(one number or `[N]`) or `times` `[sum T]` in seconds, `joint_names` `[V]`, `parents` `[V]` (-1 for
the root), `up` ("x", "y", "z" or "-x", "-y", "-z"), and `origin` `[N, 3]`, which is added to clips
that are relative to a joint. Other arrays are ignored.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.atomic import replacing
from data_pipelines.errors import DataError
from data_pipelines.untrusted import array_names, read_npz

SUFFIX = ".npz"
UP_AXES = ("x", "y", "z", "-x", "-y", "-z")
UNLABELLED = -1
_MAX_CLIPS = 2**22


@dataclass(frozen=True)
class ClipArchive:
    """The checked content of an archive.

    Attributes:
      joints: `[sum T, M, V, k]` with `k` 3, or 2 for 2D clips; any real type and unit.
      lengths: `[N]` frames of each clip.
      labels: `[N]` indices into `class_names`, or `UNLABELLED`.
      subjects, clip_ids: `N` names; an unknown subject is "".
      fps: `[N]` frames per second, or None.
      times: `[sum T]` seconds, or None.
      joint_names: `V` names, or None.
      parents: `V` indices, -1 for the root, or None.
      up: one of `UP_AXES`, or "".
      origin: `[N, 3]` offsets to add to the clips, or None.
    """

    joints: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    subjects: tuple[str, ...]
    clip_ids: tuple[str, ...]
    fps: np.ndarray | None = None
    times: np.ndarray | None = None
    joint_names: tuple[str, ...] | None = None
    parents: tuple[int, ...] | None = None
    up: str = ""
    origin: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def frames(self, index: int) -> slice:
        """The slice of a clip in `joints` and `times`."""
        end = int(self.lengths[: index + 1].sum())
        return slice(end - int(self.lengths[index]), end)

    def clip(self, index: int) -> Float[np.ndarray, "M T V k"]:
        """One clip, float32, in the unit of the archive."""
        with np.errstate(over="ignore", invalid="ignore"):  # the caller checks for finite values
            joints = self.joints[self.frames(index)].astype(np.float32).swapaxes(0, 1)
        if self.origin is None:
            return joints
        return joints + self.origin[index, : joints.shape[-1]].astype(np.float32)


def is_archive(file: Path) -> bool:
    """Whether a file is a clip archive: an npz with an array `joints`."""
    return file.suffix == SUFFIX and file.is_file() and "joints" in array_names(file)


def read_archive(file: Path) -> ClipArchive:
    """Reads an archive.

    Raises:
      DataError: it is damaged or a decompression bomb, or an array does not match the format.
    """
    names = array_names(file)
    if "joints" not in names:
        raise DataError(f"expected an npz with an array named joints, got {names}", file)
    arrays = read_npz(file, [name for name in _KNOWN if name in names])
    try:
        return _checked(arrays)
    except ValueError as error:
        raise DataError(str(error), file) from error


def write_archive(file: Path, archive: ClipArchive) -> None:
    """Writes an archive atomically; the axis `M` is dropped for a single person."""
    one = archive.joints.shape[1] == 1
    arrays: dict[str, Any] = {
        "joints": archive.joints[:, 0] if one else archive.joints,
        "lengths": np.asarray(archive.lengths, np.int32),
        "label": np.asarray(archive.labels, np.int32),
        "class_names": np.array(archive.class_names, str),
        "subject": np.array(archive.subjects, str),
        "clip_id": np.array(archive.clip_ids, str),
    }
    for name in ("fps", "times", "joint_names", "parents", "origin"):
        value = getattr(archive, name)
        if value is not None:
            arrays[name] = np.asarray(value)
    if archive.up:
        arrays["up"] = np.array(archive.up)
    with replacing(file) as stream:
        np.savez_compressed(stream, **arrays)


def archive_of_clips(clips: Sequence[np.ndarray], **fields: Any) -> ClipArchive:
    """An archive of clips in memory.

    Args:
      clips: each `[M, T, V, k]`, with the same `M`, `V` and `k`.
      fields: attributes of `ClipArchive`; labels, subjects and ids default as in the format.
    """
    joints = np.concatenate([np.swapaxes(clip, 0, 1) for clip in clips])
    lengths = np.array([clip.shape[1] for clip in clips], np.int32)
    defaults: dict[str, Any] = {
        "labels": np.full(len(clips), UNLABELLED, np.int32),
        "class_names": (),
        "subjects": ("",) * len(clips),
        "clip_ids": tuple(map(str, range(len(clips)))),
    }
    return ClipArchive(joints, lengths, **(defaults | fields))


_KNOWN = (
    "joints", "lengths", "label", "class_names", "subject", "clip_id", "fps", "times",
    "joint_names", "parents", "up", "origin",
)  # fmt: skip


def _checked(arrays: dict[str, np.ndarray]) -> ClipArchive:
    joints = _joints(arrays["joints"])
    total, _, num_joints, _ = joints.shape
    lengths = _lengths(arrays.get("lengths"), total)
    count = len(lengths)
    classes = _texts(arrays, "class_names", None) or ()
    labels = _labels(arrays.get("label"), count, len(classes))
    ids = _texts(arrays, "clip_id", count) or tuple(map(str, range(count)))
    names = _texts(arrays, "joint_names", num_joints)
    if names and len(set(names)) < num_joints:
        raise ValueError(f"joint_names: expected different names, got {', '.join(names)}")
    up = arrays.get("up", np.array("")).reshape(-1)
    if len(up) != 1 or str(up[0]) not in ("", *UP_AXES):
        raise ValueError(f"up: expected one of {', '.join(UP_AXES)}, got {up.tolist()!s:.50}")
    return ClipArchive(
        joints=joints,
        lengths=lengths,
        labels=labels,
        class_names=classes,
        subjects=_texts(arrays, "subject", count) or ("",) * count,
        clip_ids=_different(ids),
        fps=_rates(arrays.get("fps"), count),
        times=_numbers(arrays, "times", (total,)),
        joint_names=names,
        parents=_parents(arrays.get("parents"), num_joints),
        up=str(up[0]),
        origin=_numbers(arrays, "origin", (count, 3)),
    )


def _joints(joints: np.ndarray) -> np.ndarray:
    if joints.dtype.kind not in "fiu":
        raise ValueError(f"joints: expected real numbers, got {joints.dtype}")
    if joints.ndim not in (3, 4) or joints.shape[-1] not in (2, 3) or not joints.size:
        raise ValueError(
            "joints: expected [sum T, V, 3] or [sum T, M, V, 3] (or 2 in place of 3), "
            f"got {list(joints.shape)}"
        )
    return joints[:, None] if joints.ndim == 3 else joints


def _lengths(lengths: np.ndarray | None, total: int) -> np.ndarray:
    if lengths is None:
        return np.array([total], np.int64)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not 0 < len(lengths) <= _MAX_CLIPS:
        raise ValueError(
            f"lengths: expected the frames of each clip, got {lengths.dtype} {list(lengths.shape)}"
        )
    if lengths.min() < 1 or lengths.max() > total or int(lengths.sum(dtype=np.int64)) != total:
        raise ValueError(
            f"lengths: expected 1 or more frames per clip, {total} in all (as in joints), got "
            f"{lengths.min()} or more, {lengths.sum(dtype=np.float64):.0f} in all"
        )
    return lengths.astype(np.int64)


def _labels(labels: np.ndarray | None, count: int, classes: int) -> np.ndarray:
    if labels is None:
        return np.full(count, UNLABELLED, np.int64)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"label: expected {count} integers, got {labels.dtype} {labels.shape}")
    if labels.min() < UNLABELLED or labels.max() >= classes:
        raise ValueError(
            f"label: expected indices into the {classes} class_names (or {UNLABELLED}), got "
            f"{labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int64)


def _texts(arrays: dict[str, np.ndarray], name: str, count: int | None) -> tuple[str, ...] | None:
    """An array of names or numbers as text; None if there is none."""
    array = arrays.get(name)
    if array is None:
        return None
    expected = "a list of" if count is None else f"{count}"
    if array.ndim != 1 or count not in (None, len(array)) or array.dtype.kind not in "USiu":
        raise ValueError(f"{name}: expected {expected} names, got {array.dtype} {array.shape}")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    texts = tuple(map(str, array.tolist()))
    "".join(texts).encode()  # a UnicodeEncodeError is a ValueError
    return texts


def _different(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Unique names; repeated ones are numbered: `a`, `a#2`, `a#3`."""
    counts: Counter[str] = Counter()
    taken, different = set(ids), []
    for name in ids:
        unique = name
        while counts[name] and unique in taken:
            counts[name] += 1
            unique = f"{name}#{counts[name]}"
        counts[name] = max(1, counts[name])
        taken.add(unique)
        different.append(unique)
    return tuple(different)


def _numbers(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    array = arrays.get(name)
    if array is None:
        return None
    if array.shape != shape or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(
            f"{name}: expected finite numbers {list(shape)}, got {array.dtype} {list(array.shape)}"
        )
    return array.astype(np.float64)


def _rates(fps: np.ndarray | None, count: int) -> np.ndarray | None:
    if fps is None:
        return None
    if fps.size not in (1, count) or fps.dtype.kind not in "fiu":
        raise ValueError(f"fps: expected one number, or one per clip, got {fps.dtype} {fps.shape}")
    rates = np.broadcast_to(fps.reshape(-1).astype(np.float64), count)
    if not np.isfinite(rates).all() or rates.min() <= 0:
        raise ValueError(f"fps: expected frames per second above 0, got {rates.min()}")
    return rates


def _parents(parents: np.ndarray | None, joints: int) -> tuple[int, ...] | None:
    if parents is None:
        return None
    if parents.shape != (joints,) or parents.dtype.kind not in "iu":
        raise ValueError(
            f"parents: expected {joints} integers, got {parents.dtype} {parents.shape}"
        )
    if parents.min() < -1 or parents.max() >= joints:
        raise ValueError(
            f"parents: expected -1 to {joints - 1}, got {parents.min()} to {parents.max()}"
        )
    return tuple(map(int, parents))
