"""Reader of NTU RGB+D `.skeleton` files (Kinect v2).

Format: the number of frames; for each frame the number of bodies; for each body a line of ten
fields that begins with its tracking id, the number of joints (25), and one line of twelve numbers
per joint, of which the first three are x, y, z in metres.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import simdjson
from numpy.lib.stride_tricks import sliding_window_view

from data_pipelines.errors import DataError
from data_pipelines.formats.person_selection import select_persons
from data_pipelines.formats.raw import RawClip, match_name, numbers

JOINTS, INFO_FIELDS, JOINT_FIELDS = 25, 10, 12
# Over an hour. The limit is needed since a frame without a body has two bytes in the text, but the
# size of any other frame in the array.
MOST_FRAMES = 2**17
_LARGEST = float(np.finfo(np.float32).max)
_JSON = simdjson.Parser()  # one instance, to reuse its buffers
_BODY_FIELDS = INFO_FIELDS + 1 + JOINTS * JOINT_FIELDS
NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


@dataclass(frozen=True)
class Bodies:
    """All bodies of a recording, in the order of the file.

    Attributes:
      num_frames: `T`, including frames without a body.
      frame: `[K]` the frame of each body.
      track: `K` tracking ids, as text: they exceed the precision of a float64.
      joints: `[K, 25, 3]` float32, metres.
    """

    num_frames: int
    frame: np.ndarray
    track: list[bytes]
    joints: np.ndarray


@dataclass(frozen=True)
class NtuName:
    """The fields of a stem such as S001C002P003R002A013; `label` is 0-based."""

    setup: int
    camera: int
    subject: int
    repetition: int
    label: int


def parse_name(stem: str) -> NtuName:
    """Parses a stem.

    Raises:
      DataError: it is not an NTU name.
    """
    found = match_name(NAME.pattern, stem, "S001C001P001R001A001")
    setup, camera, subject, repetition, action = map(int, found.groups())
    if action < 1:
        raise DataError("expected an action from A001 on, got A000", stem)
    return NtuName(setup, camera, subject, repetition, action - 1)


def named_clip(clip_id: str, joints: np.ndarray, label: int) -> RawClip:
    """A clip with subject, view and setup from its id, if the id is an NTU stem."""
    if not NAME.fullmatch(clip_id):
        return RawClip(clip_id, joints, label)
    name = parse_name(clip_id)
    return RawClip(clip_id, joints, label, name.subject, name.camera, name.setup)


def read_ntu(file: str, content: bytes) -> RawClip:
    """Reads one `.skeleton` file, with the persons chosen by `select_persons`.

    Raises:
      DataError: the name or the text is not as published; the message has the line.
    """
    found = match_name(NAME.pattern + r"\.skeleton", file, "S001C001P001R001A001.skeleton")
    stem = found.string.removesuffix(".skeleton")
    name = parse_name(stem)
    bodies = parse_skeleton(content, file)
    persons, notes = select_persons(bodies.num_frames, bodies.frame, bodies.track, bodies.joints)
    return replace(named_clip(stem, persons, name.label), notes=notes)


def parse_skeleton(content: bytes, file: str) -> Bodies:
    """All bodies of a `.skeleton` file.

    Regular files use a fast parser. Others are parsed line by line, which accepts other white space
    and finds the line of an error.

    Raises:
      DataError: the text is invalid; the message has the line, the expected and the actual content.
    """
    try:
        return _parse_regular(content)
    except (IndexError, ValueError, RuntimeError, TypeError):
        return parse_lines(content, file)


def _parse_regular(content: bytes) -> Bodies:
    """Parses a file whose fields are separated by single spaces and newlines.

    The positions of all separators give the position of each field. One comparison checks the ends
    of all lines, and only three of twelve fields are parsed as numbers.

    Raises:
      IndexError, ValueError, RuntimeError, TypeError: the file is not regular.
    """
    if not content.isascii():
        raise ValueError("not ASCII")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
    if not content.endswith(b"\n"):
        content += b"\n"
    text = np.frombuffer(content, np.uint8)
    is_separator = text <= ord(" ")
    if is_separator[0] or (is_separator[1:] & is_separator[:-1]).any():
        raise ValueError("an empty field")
    separators = np.flatnonzero(is_separator)
    at = separators.item
    num_frames, position = _count(content[: at(0)]), 1
    if num_frames > MOST_FRAMES:
        raise ValueError("too many frames")
    line_ends, body_at, frame, track = [0], [], [], []
    for index in range(num_frames):
        line_ends.append(position)
        count = _count(content[at(position - 1) + 1 : at(position)])
        position += 1
        for _ in range(count):
            body_at.append(position)
            frame.append(index)
            track.append(content[at(position - 1) + 1 : at(position)])
            joints_at = position + INFO_FIELDS
            if content[at(joints_at - 1) + 1 : at(joints_at)] != b"%d" % JOINTS:
                raise ValueError("another number of joints")
            position += _BODY_FIELDS
    if position != len(separators) or num_frames < 1 or not body_at:
        raise ValueError("the number of fields differs from the counts")
    starts = np.array(body_at)
    first = (starts[:, None] + np.arange(INFO_FIELDS + 1, _BODY_FIELDS, JOINT_FIELDS)).ravel()
    expected = np.full(len(separators), ord(" "), np.uint8)
    expected[line_ends] = ord("\n")
    expected[starts + INFO_FIELDS - 1] = expected[starts + INFO_FIELDS] = ord("\n")
    expected[first + JOINT_FIELDS - 1] = ord("\n")
    if not np.array_equal(expected, text[separators]):
        raise ValueError("a line that is too short or too long")
    joints = _first_three(text, separators, first).reshape(-1, JOINTS, 3)
    return Bodies(num_frames, np.array(frame), track, joints)


def _count(field: bytes) -> int:
    if not field.isdigit() or len(field) > 9:
        raise ValueError("not a whole number")
    return int(field)


def _first_three(text: np.ndarray, separators: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The numbers in the fields `first`, `first + 1` and `first + 2`, float32.

    Extracts the three fields, blanks the text behind them, separates them by commas, and parses the
    result as JSON: simdjson is the fastest parser of decimal numbers.
    """
    start = separators[first - 1] + 1
    length = separators[first + 2] - start
    width = int(length.max()) + 1
    if start[-1] + width > len(text) or width > 255:
        raise ValueError("a last line that is too short, or a number that is too long")
    lines = sliding_window_view(text, width)[start]
    behind = np.arange(width, dtype=np.uint8) > length.astype(np.uint8)[:, None]
    np.putmask(lines, behind, ord("\n"))
    other = (lines > ord("9")) & (lines != ord("E")) & (lines != ord("e"))
    if other.any() or (lines == ord(",")).any():
        raise ValueError("other characters than numbers")
    np.putmask(lines, lines == ord(" "), ord(","))
    array: Any = _JSON.parse(b"[" + lines.tobytes().rstrip()[:-1] + b"]")
    parsed = np.frombuffer(array.as_buffer(of_type="d"))
    if len(parsed) != 3 * len(first) or not (np.abs(parsed) < _LARGEST).all():
        raise ValueError("not finite, or not three numbers per joint")
    return parsed.astype(np.float32)


class _Lines:
    """Iterates over the lines of a file, split into fields; keeps the line number for errors."""

    def __init__(self, content: bytes, file: str):
        try:
            self.lines = content.decode("ascii").splitlines()
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise DataError(f"expected ASCII text ({error.reason})", file, line) from error
        self.file, self.number = file, 0

    def fields(self, count: int, what: str) -> list[str]:
        """The fields of the next line."""
        if self.number == len(self.lines):
            raise DataError(f"expected {what}, got the end of the file", self.file, self.number + 1)
        fields = self.lines[self.number].split()
        self.number += 1
        if len(fields) != count:
            raise self.error(f"expected {what} ({count} fields), got {len(fields)} fields")
        return fields

    def integer(self, what: str, least: int) -> int:
        """The next line as a whole number."""
        (field,) = self.fields(1, what)
        if not field.isdecimal() or len(field) > 15 or int(field) < least:
            raise self.error(f"expected {what}, a whole number from {least} on, got {field!r}")
        return int(field)

    def error(self, message: str) -> DataError:
        """An error with the file and the current line."""
        return DataError(message, self.file, self.number)


def parse_lines(content: bytes, file: str) -> Bodies:
    """Like `parse_skeleton`, line by line: slow, accepts any white space, finds errors.

    Raises:
      DataError: the text is invalid; the message has the line, the expected and the actual content.
    """
    lines = _Lines(content, file)
    num_frames = lines.integer("the number of frames", 1)
    if num_frames > len(lines.lines):
        raise lines.error(f"expected {num_frames} frames, got {len(lines.lines)} lines")
    if num_frames > MOST_FRAMES:
        raise lines.error(f"expected at most {MOST_FRAMES} frames, got {num_frames}")
    frame, track, joints = [], [], []
    for index in range(num_frames):
        for _ in range(lines.integer(f"the number of bodies in frame {index}", 0)):
            info = lines.fields(INFO_FIELDS, "a tracking id and nine states of a body")
            if lines.integer("the number of joints", 0) != JOINTS:
                raise lines.error(f"expected {JOINTS} joints")
            frame.append(index)
            track.append(info[0].encode())
            joints.append([_joint(lines) for _ in range(JOINTS)])
    if any(line.strip() for line in lines.lines[lines.number :]):
        lines.number += 1
        raise lines.error(f"expected the end of the file after {num_frames} frames, got more lines")
    array = np.array(joints, np.float32).reshape(-1, JOINTS, 3)
    return Bodies(num_frames, np.array(frame, int), track, array)


def _joint(lines: _Lines) -> list[float]:
    fields = lines.fields(JOINT_FIELDS, "twelve numbers of a joint")
    joint = numbers(fields[:3], lines.file, lines.number)
    if not all(abs(number) < _LARGEST for number in joint):
        raise lines.error(f"expected finite coordinates, got {' '.join(fields[:3])}")
    return joint
