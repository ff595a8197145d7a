"""Users' clips, of any skeleton and format, in the common skeleton: `load_clips`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.body_height import check_metres
from data_pipelines.clip_readers import SUFFIXES, RawFile, Recording, open_clips
from data_pipelines.conventions import Conventions, Declared, find_conventions, to_project
from data_pipelines.errors import DataError, check_choice
from data_pipelines.formats.clip_archive import is_archive, read_archive
from data_pipelines.formats.gcn_arrays import LABELS
from data_pipelines.layouts import COMMON, LAYOUTS, Layout, layout_of
from data_pipelines.mending import even_frames, mend, never_tracked
from data_pipelines.untrusted import inside

ASSUMED_FPS = 30.0
_MAX_SAMPLES = 64  # clips of a file from which its conventions are estimated


@dataclass(frozen=True)
class Clip:
    """A clip in the common skeleton.

    Attributes:
      id: the file's name without its suffix, and the clip's id in the file.
      joints: `[M, T, 20, 3]` float32 of `KINECT_V1`: metres, x to the person's right, y forward, z
        up from the floor; zeros where a person is absent.
      fps: frames per second.
      label: class name, if known.
      subject: name of the person; empty if unknown.
      statements: assumptions and changes in short sentences; equal texts for equal reasons.
    """

    id: str
    joints: Float[np.ndarray, "M T 20 3"]
    fps: float
    label: str | None
    statements: tuple[str, ...]
    subject: str = ""


class CommonClips:
    """The clips of one file in the common skeleton, converted on access."""

    def __init__(
        self,
        file: Path,
        skeleton: str | Mapping | None = None,
        declared: Declared | None = None,
        raw: RawFile | None = None,
    ):
        """Opens a file.

        Args:
          skeleton: see `layout_of`.
          raw: the clips, if they are in memory.

        Raises:
          DataError: the file cannot be read.
        """
        self.file, self.skeleton = file, skeleton
        self.raw = raw or open_clips(file, skeleton)
        declared = declared or Declared()
        self.declared = replace(declared, up=declared.up or self.raw.up)
        self.layout = lru_cache(self._layout)

    def __len__(self) -> int:
        return self.raw.count

    def clip(self, index: int, name: str = "") -> Clip:
        """One clip.

        Args:
          name: replaces the file's name in the id.

        Raises:
          DataError: the clip cannot be used; the message has the reason.
        """
        recording = self.raw.read(index)
        where = f"{self.file}, clip {recording.id}" if recording.id else self.file
        try:
            joints, fps, changes = self._common(recording)
            conventions = self._conventions
            joints = to_project(joints, conventions)
            if not self.declared.metres:
                check_metres(joints, COMMON)
        except ValueError as error:
            raise DataError(str(error), where) from error
        title = "/".join(filter(None, (name or self.file.stem, recording.id)))
        statements = (*changes, *conventions.statements)
        return Clip(title, joints, fps, recording.label, statements, recording.subject)

    def _layout(self, count: int, absent: tuple[int, ...]) -> Layout:
        absent = (*absent, *self.raw.ignored)
        return layout_of(self.skeleton, self.raw.names, count, absent, self.raw.asf_ends)

    def _common(self, recording: Recording) -> tuple[np.ndarray, float, list[str]]:
        """Joints of the common skeleton in the file's frame, frames per second, statements."""
        joints = recording.joints
        count, root = joints.shape[2], self.raw.root
        root = self.layout(count, ()).root if root is None else root
        layout = self.layout(count, never_tracked(joints, root))
        mended, statements = mend(joints, np.any(layout.weights != 0, axis=0), root)
        if layout.statement:
            statements = [layout.statement, *statements]
        fps = self.declared.fps or recording.fps
        if fps is None and recording.times is not None:
            mended, fps, uneven = even_frames(mended, recording.times)
            statements += uneven
        elif fps is None:
            fps = ASSUMED_FPS
            statements.append(f"no frame rate is given: {fps:.0f} frames per second are assumed")
        common = layout.to_common(mended)
        present = np.any(mended != 0, axis=(2, 3), keepdims=True)
        return np.where(present, common, 0), fps, statements

    @property
    def _conventions(self) -> Conventions:
        if isinstance(self._found, str):
            raise ValueError(self._found)
        return self._found

    @cached_property
    def _found(self) -> Conventions | str:
        """The conventions, or the reason why they cannot be estimated."""
        samples = np.unique(np.linspace(0, len(self) - 1, _MAX_SAMPLES).astype(int))
        clips = []
        for index in samples:
            try:
                clips.append(self._common(self.raw.read(int(index)))[0])
            except ValueError:
                continue  # reported when the clip is read
        if not clips:
            return f"none of {len(samples)} clips can be used"
        try:
            return find_conventions(clips, self.declared, self.raw.unit_known)
        except ValueError as error:
            return str(error)


def load_clips(
    path: Path | str,
    skeleton: str | Mapping | None = None,
    declared: Declared | None = None,
) -> Iterator[Clip | str]:
    """The clips of a file, or of all files of a folder and its subfolders, sorted by name.

    Args:
      path: clip archives and other npz and npy files, BVH, NTU's `.skeleton`, text, or PYSKL
        pickles.
      skeleton: one of `LAYOUTS`, or a mapping from common joints to source joints; required for
        files without joint names. See `layout_of`.
      declared: known coordinates, unit and frame rate.

    Yields:
      Clips; a clip that cannot be used is replaced by the reason as text, with its file.

    Raises:
      FileNotFoundError: there is no such file, or no file of clips in the folder.
      ValueError: unknown layout.
    """
    path = Path(path)
    if isinstance(skeleton, str):
        check_choice("skeleton", skeleton, LAYOUTS)
    for file in _files(path):
        name = str(file.relative_to(path).with_suffix("")) if path.is_dir() else file.stem
        try:
            clips = CommonClips(inside(path, file), skeleton, declared)
        except DataError as error:
            yield str(error)
            continue
        for index in range(len(clips)):
            try:
                yield clips.clip(index, name)
            except DataError as error:
                yield str(error)


def class_names(path: Path | str) -> tuple[str, ...]:
    """Sorted class names of the clip archives of a file or folder; labels are not read.

    Raises:
      FileNotFoundError, DataError: see `load_clips`.
    """
    files = (inside(Path(path), file) for file in _files(Path(path)))
    archives = (read_archive(file) for file in files if is_archive(file))
    return tuple(sorted({name for archive in archives for name in archive.class_names}))


def clip_from_array(
    joints: np.ndarray, skeleton: str | Mapping | None = None, declared: Declared | None = None
) -> Clip:
    """Converts a clip in memory to the common skeleton.

    Args:
      joints: `[T, V, k]` or `[M, T, V, k]` in any unit and frame, with `k` 3, or 2 for 2D clips.
      skeleton, declared: see `load_clips`.

    Raises:
      DataError: the clip cannot be used; the message has the reason.
    """
    joints = np.asarray(joints)
    if joints.ndim == 3:
        joints = joints[None]
    if joints.ndim != 4 or joints.shape[-1] not in (2, 3) or not joints.size:
        raise DataError(
            f"expected [T, V, 3] or [M, T, V, 3], or 2 for 2D clips, got {list(joints.shape)}",
            "clip",
        )
    if isinstance(skeleton, str):
        check_choice("skeleton", skeleton, LAYOUTS)
    raw = RawFile(1, lambda _: Recording("", joints.astype(np.float32)))
    return CommonClips(Path("clip"), skeleton, declared, raw).clip(0)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        files = [file for file in files if not file.name.endswith(LABELS)]
        if files:
            return files
    elif path.exists():
        return [path]
    raise FileNotFoundError(
        f"expected a file of clips, or a folder with files that end in {', '.join(SUFFIXES)}, "
        f"found none at {path}"
    )
