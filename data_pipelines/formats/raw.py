"""The output type of all readers, and their common checks."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from data_pipelines.errors import DataError


@dataclass(frozen=True)
class RawClip:
    """One recording of one action, before cleaning.

    Attributes:
      clip_id: unique within the dataset.
      joints: `[M, T, V, 3]` float32, metres; an absent person is all zeros.
      label: class id, from 0.
      subject, view, setup: numbers used by the dataset; 0 if it has none.
      notes: counts of repairs and of dropped content.
    """

    clip_id: str
    joints: np.ndarray
    label: int
    subject: int = 0
    view: int = 0
    setup: int = 0
    notes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        """Checks the id, which can come from a file name in any encoding."""
        try:
            self.clip_id.encode()
        except UnicodeEncodeError as error:
            raise DataError("expected a name in UTF-8", self.clip_id) from error


def match_name(pattern: str, file: str, example: str) -> re.Match:
    """Matches a file name without its folders.

    Raises:
      DataError: the name does not match, and the message has the example; or see `check_digits`.
    """
    found = re.fullmatch(pattern, PurePosixPath(file).name)
    if not found:
        raise DataError(f"expected a file name like {example}", file)
    check_digits(found.groups(), file)
    return found


def check_digits(texts: Iterable[str], file: str) -> None:
    """Refuses whole numbers in a file name that exceed 32 bits.

    Raises:
      DataError: a text consists of ten digits or more.
    """
    if any(text.isdecimal() and len(text) > 9 for text in texts):
        raise DataError("expected numbers below 10^9 in the file name", file)


def numbers(fields: Iterable[str | bytes], file: str, line: int) -> list[float]:
    """The fields of a line as numbers.

    Raises:
      DataError: a field is not a number.
    """
    try:
        return [float(field) for field in fields]
    except ValueError as error:
        raise DataError(f"expected numbers ({error})", file, line) from error


def checked(
    joints, file: str, joint_names: tuple[str, ...], first_line: int | None = None
) -> np.ndarray:
    """Joints as float32; refuses other shapes, other types and non-finite values.

    Args:
      joints: `[M, T, V, 3]`.
      joint_names: `V` names, for the message.
      first_line: line of frame 0 in files with one line per frame.

    Raises:
      DataError: the message has the expected and the actual content, and the position in the file.
    """
    shape, num_joints = np.shape(joints), len(joint_names)
    if len(shape) != 4 or shape[2:] != (num_joints, 3) or 0 in shape:
        raise DataError(
            f"expected joints [M, T, {num_joints}, 3] with M, T >= 1, got {list(shape)}", file
        )
    joints = np.asarray(joints)
    if joints.dtype.kind not in "fiu":
        raise DataError(f"expected real numbers, got {joints.dtype}", file)
    with np.errstate(invalid="ignore", over="ignore"):
        clip = joints.astype(np.float32)
    if not np.isfinite(clip).all():
        person, frame, joint, axis = np.argwhere(~np.isfinite(clip))[0]
        raise DataError(
            f"expected finite coordinates, got {joints[person, frame, joint, axis]} at frame "
            f"{frame}, joint {joint_names[joint]}, axis {'xyz'[axis]}",
            file,
            None if first_line is None else first_line + int(frame),
        )
    return clip


def checked_label(label: int, num_classes: int, file: object) -> int:
    """A class id in `[0, num_classes)`.

    Raises:
      DataError: it is outside (as an index, -1 would mean the last class).
    """
    if not 0 <= label < num_classes:
        raise DataError(f"expected a label from 0 to {num_classes - 1}, got {label}", file)
    return int(label)


def total(notes: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sums of the notes of many clips, in order of first appearance."""
    summed: Counter[str] = Counter()
    for note in notes:
        summed.update(note)
    return dict(summed)
