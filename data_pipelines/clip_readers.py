"""Readers of clip files, one for each format, chosen by the file's suffix."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.errors import DataError
from data_pipelines.formats import bvh, clip_archive, gcn_arrays, pyskl
from data_pipelines.formats.custom import read_array, read_skeleton, read_text
from data_pipelines.layouts import LAYOUTS
from data_pipelines.skeletons import KINECT_V2
from data_pipelines.untrusted import LARGEST

NTU_FPS = 30.0
_COINCIDE = 1e-6  # distance of two joints over the size of the motion


@dataclass(frozen=True)
class Recording:
    """One clip as stored in its file.

    Attributes:
      id: unique in the file; "" for the only clip of a file.
      joints: `[M, T, V, k]` in any unit and frame, with `k` 3, or 2 for 2D clips.
      fps: frames per second, if the file has it.
      times: `[T]` seconds, if the file has them.
      label: class name.
      subject: name of the person, "" if unknown.
    """

    id: str
    joints: Float[np.ndarray, "M T V k"]
    fps: float | None = None
    times: Float[np.ndarray, " T"] | None = None
    label: str | None = None
    subject: str = ""


@dataclass(frozen=True)
class RawFile:
    """The clips of one file, with common joints, coordinates and unit.

    Attributes:
      count: number of clips.
      read: function from index to clip.
      names: names of the `V` joints; None if the file has none.
      root: index of the root joint, if known.
      ignored: indices of joints that are not used.
      up: one of `UP_AXES`, if the file has it.
      unit_known: whether lengths are metres, centimetres or millimetres.
      asf_ends: see `joint_names.body_points`.
    """

    count: int
    read: Callable[[int], Recording]
    names: tuple[str, ...] | None = None
    root: int | None = None
    ignored: tuple[int, ...] = ()
    up: str = ""
    unit_known: bool = True
    asf_ends: bool = True


def open_clips(file: Path, skeleton: str | Mapping | None = None) -> RawFile:
    """Opens a file of clips.

    Args:
      skeleton: layout of clips without joint names; text files need the name of a layout.

    Raises:
      DataError: the file is damaged, or its format unknown.
    """
    if clip_archive.is_archive(file):
        return _open_archive(file)
    if file.suffix == PYSKL:
        return _open_pyskl(file)
    if padded := gcn_arrays.padded_clips(file):
        return _open_padded(padded, file, skeleton)
    if file.suffix not in READERS:
        raise DataError(f"expected a file with {', '.join(SUFFIXES)}", file)
    if file.stat().st_size > LARGEST:
        raise DataError(f"expected at most {LARGEST} bytes", file)
    try:
        return READERS[file.suffix](file.read_bytes(), str(file), skeleton)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error), file) from error


def _open_archive(file: Path) -> RawFile:
    archive = clip_archive.read_archive(file)

    def read(index: int) -> Recording:
        label = int(archive.labels[index])
        return Recording(
            id=archive.clip_ids[index],
            joints=archive.clip(index),
            fps=None if archive.fps is None else float(archive.fps[index]),
            times=None if archive.times is None else archive.times[archive.frames(index)],
            label=archive.class_names[label] if label >= 0 else None,
            subject=archive.subjects[index],
        )

    root = archive.parents.index(-1) if archive.parents and -1 in archive.parents else None
    return RawFile(len(archive), read, archive.joint_names, root, up=archive.up)


def _open_pyskl(file: Path) -> RawFile:
    annotations = pyskl.read_record(file)["annotations"]

    def read(index: int) -> Recording:
        where = f"{file}, annotation {index}"
        try:
            name, keypoint = str(annotations[index]["frame_dir"]), annotations[index]["keypoint"]
        except (KeyError, TypeError) as error:
            raise DataError(f"expected frame_dir and keypoint ({error!r})", where) from error
        return Recording(name, _joints(np.asarray(keypoint), where))

    return RawFile(len(annotations), read)


def _open_padded(padded: Mapping[str, np.ndarray], file: Path, skeleton: object) -> RawFile:
    """Padded clips of skeleton GCNs; flat rows hold two persons, as published."""
    clips = [(side, index) for side, block in padded.items() for index in range(len(block))]

    def read(index: int) -> Recording:
        side, number = clips[index]
        clip, name = padded[side][number], f"{side}{number:06d}"
        count = clip.shape[2] if clip.ndim == 4 else clip.shape[-1] // 6
        if clip.ndim == 2 and isinstance(skeleton, str):
            count = len(LAYOUTS[skeleton])
        where = f"{file}, clip {name}"
        return Recording(name, _joints(gcn_arrays.unpad(clip, count, where), where))

    return RawFile(len(clips), read)


def _open_bvh(content: bytes, file: str, skeleton: object) -> RawFile:
    parsed = bvh.parse_bvh(content, file)
    positions = bvh.joint_positions(parsed)
    distance = _COINCIDE * np.ptp(positions)
    same = [
        joint
        for joint, parent in enumerate(parsed.parents)
        if parent >= 0 and np.abs(positions[:, joint] - positions[:, parent]).max() <= distance
    ]
    recording = Recording("", positions[None], fps=1 / parsed.frame_time)
    return RawFile(
        1,
        lambda _: recording,
        tuple(parsed.names),
        0,
        tuple(same),
        unit_known=False,
        asf_ends=False,
    )


def _open_array(content: bytes, file: str, skeleton: object) -> RawFile:
    joints = _joints(read_array(content, file), file)
    return RawFile(1, lambda _: Recording("", joints))


def _joints(clip: np.ndarray, where: str) -> Float[np.ndarray, "M T V k"]:
    """A clip as float32; refuses other shapes and types."""
    if clip.ndim != 4 or clip.shape[-1] not in (2, 3) or not clip.size:
        raise DataError(f"expected [T, V, 3] or [M, T, V, 3], got {list(clip.shape)}", where)
    if clip.dtype.kind not in "fiu":
        raise DataError(f"expected real numbers, got {clip.dtype}", where)
    with np.errstate(over="ignore"):
        return clip.astype(np.float32)


def _open_text(content: bytes, file: str, skeleton: object) -> RawFile:
    if not isinstance(skeleton, str) or skeleton not in LAYOUTS:
        raise DataError(
            f"expected a skeleton for a text file: --skeleton, one of {', '.join(LAYOUTS)}", file
        )
    clip = read_text(content, file, len(LAYOUTS[skeleton]))
    return RawFile(1, lambda _: Recording("", clip))


def _open_skeleton(content: bytes, file: str, skeleton: object) -> RawFile:
    clip = read_skeleton(content, file)
    recording = Recording("", clip, fps=NTU_FPS)
    return RawFile(1, lambda _: recording, KINECT_V2.joints)


PYSKL = ".pkl"
# For each suffix a function `(content, name, skeleton)` to `RawFile`, for files with one clip.
READERS: dict[str, Callable[[bytes, str, object], RawFile]] = {
    bvh.SUFFIX: _open_bvh,
    ".npy": _open_array,
    ".npz": _open_array,
    ".skeleton": _open_skeleton,
    ".txt": _open_text,
    ".csv": _open_text,
}
SUFFIXES = (*READERS, PYSKL)
