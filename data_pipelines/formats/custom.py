"""Reader of custom clips: text, npz or .skeleton files, with the class in the file name."""

import io
import re
from dataclasses import dataclass

import numpy as np

from data_pipelines.body_height import check_metres
from data_pipelines.custom_spec import SPEC, CustomSpec
from data_pipelines.errors import DataError
from data_pipelines.formats.ntu import parse_skeleton
from data_pipelines.formats.person_selection import select_persons
from data_pipelines.formats.raw import RawClip, check_digits, checked, numbers
from data_pipelines.untrusted import array_names, read_npy, read_npz

SUFFIXES = {"text": (".txt", ".csv"), "npz": (".npz", ".npy"), "skeleton": (".skeleton",)}
_WHOLE = ("subject", "view", "setup")


@dataclass(frozen=True)
class CustomReader:
    """Reads a file's `(name, content)` as the description of the dataset defines."""

    spec: CustomSpec

    def __call__(self, file: str, content: bytes) -> RawClip:
        """Reads one file.

        Raises:
          DataError: the name does not match the pattern, or the content does not match the format.
        """
        spec = self.spec
        inner = file.removeprefix(f"{spec.folder}/")
        fields = match_fields(spec.files, inner)
        if fields is None:
            raise DataError(f"expected a file name like {spec.files}", file)
        label = self._label(fields["class"], file)
        joints = self._joints(content, file)
        if joints.dtype.kind in "fiu":
            with np.errstate(invalid="ignore", over="ignore"):  # checked next
                joints = joints.astype(np.float64) * spec.metres
        joints = checked(joints, file, spec.skeleton.joints)
        try:
            check_metres(joints, spec.skeleton)
        except ValueError as error:
            raise DataError(
                f"{error}. The key metres of {SPEC} is {spec.metres:g}", file
            ) from error
        found = [fields.get(key, "0") for key in _WHOLE]
        check_digits(found, file)
        subject, view, setup = map(int, found)
        return RawClip(inner.rpartition(".")[0], joints, label, subject, view, setup)

    def _joints(self, content: bytes, file: str) -> np.ndarray:
        if self.spec.format == "text":
            return read_text(content, file, self.spec.skeleton.num_joints)
        return (read_array if self.spec.format == "npz" else read_skeleton)(content, file)

    def _label(self, text: str, file: str) -> int:
        names = [_plain(name) for name in self.spec.classes]
        if _plain(text) in names:
            return names.index(_plain(text))
        if text.isdecimal() and 0 <= int(text) - self.spec.first_class < len(names):
            return int(text) - self.spec.first_class
        last = self.spec.first_class + len(names) - 1
        raise DataError(
            f"expected a class name or a number from {self.spec.first_class} to {last}, "
            f"got {text!r}",
            file,
        )


def _plain(name: str) -> str:
    """A class name in lower case, with spaces for hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def match_fields(pattern: str, name: str) -> dict[str, str] | None:
    """The fields of a name, such as `{class}_s{subject}.txt`; None if it does not match.

    The fields subject, view and setup match digits, as many as possible; others match text without
    a slash, as short as possible; a repeated field is its first text. The time is proportional to
    the parts of the pattern times the letters of the name; a regular expression takes centuries.
    """
    parts, size = re.findall(r"\{(\w+)\}|([^{]+)", pattern), len(name)
    # For each part, where it ends if it begins at a position and the following parts match.
    table: list[list[int]] = [[0] * size + [size]]  # 0: they do not
    for field, literal in reversed(parts):
        after, ends = table[-1], [0] * (size + 1)
        for at in reversed(range(size)):
            next_at = at + 1 if after[at + 1] else 0
            if literal:
                end = at + len(literal)
                ends[at] = end if name.startswith(literal, at) and after[end] else 0
            elif field in _WHOLE:
                ends[at] = (ends[at + 1] or next_at) if name[at].isdecimal() else 0
            else:
                ends[at] = (next_at or ends[at + 1]) if name[at] != "/" else 0
        table.append(ends)
    fields: dict[str, str] = {}
    at = 0
    for (field, _), ends in zip(parts, reversed(table), strict=False):
        if not ends[at]:
            return None
        if field:
            fields.setdefault(field, name[at : ends[at]])
        at = ends[at]
    return fields if at == size else None


def read_text(content: bytes, file: str, joints: int) -> np.ndarray:
    """Reads text as `[M, T, V, 3]`: one line per frame, `M * V * 3` numbers.

    Args:
      content: numbers are separated by spaces or commas.
      joints: `V`.

    Raises:
      DataError: a line is invalid; the message has its number.
    """
    frames: list[np.ndarray] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            raise DataError("expected the numbers of a frame, got an empty line", file, number)
        fields = re.split(r"[,\s]+", line.strip().strip(","))
        frames.append(np.array(numbers(fields, file, number)))
        if len(fields) % (3 * joints) or len(fields) != len(frames[0]):
            raise DataError(
                f"expected a multiple of {3 * joints} numbers, the same in all lines, "
                f"got {len(fields)}",
                file,
                number,
            )
        if not np.isfinite(frames[-1]).all():
            raise DataError("expected finite coordinates", file, number)
    if not frames:
        raise DataError("expected lines of numbers, got an empty file", file)
    return np.array(frames).reshape(len(frames), -1, joints, 3).transpose(1, 0, 2, 3)


def read_array(content: bytes, file: str) -> np.ndarray:
    """Reads `[M, T, V, 3]` or `[T, V, 3]` from an npy, or from the array `clip` of an npz.

    The name `clip` is not needed if the npz has a single array. Shape and type are not checked.

    Raises:
      DataError: the file is damaged.
    """
    stream = io.BytesIO(content)
    if names := array_names(stream, file):
        if "clip" not in names and len(names) != 1:
            raise DataError(f"expected one array, or one named clip, got {names}", file)
        name = "clip" if "clip" in names else names[0]
        clip = read_npz(stream, [name], file)[name]
    else:
        stream.seek(0)
        clip = read_npy(stream, len(content), file)
    return clip[None] if clip.ndim == 3 else clip


def read_skeleton(content: bytes, file: str) -> np.ndarray:
    """Reads NTU's text format as `[M, T, 25, 3]`, metres.

    Raises:
      DataError: a line is invalid; the message has its number.
    """
    bodies = parse_skeleton(content, file)
    return select_persons(bodies.num_frames, bodies.frame, bodies.track, bodies.joints)[0]
