"""BVH motion-capture files: parser, writer, and forward kinematics.

The transform of a joint relative to its parent is `translate(offset) R_1 R_2 R_3`, with the
rotations in the order of its channels. Position channels replace the offset along their axes.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from data_pipelines.errors import DataError
from data_pipelines.formats.raw import numbers

SUFFIX = ".bvh"
END = "_end"  # suffix that makes the name of an end site from that of its joint
_AXES = {"X": 0, "Y": 1, "Z": 2}
_CHANNELS = {f"{axis}{kind}" for axis in _AXES for kind in ("position", "rotation")}
_MAX_JOINTS = 2**10
_MAX_POSITIONS = 2**24  # frames times joints: a hundred joints for 46 minutes at 60 Hz


@dataclass
class Bvh:
    """The content of a file.

    Attributes:
      names: `V` names; an end site has the name of its joint plus `END`.
      parents: `V` indices, smaller than the joint's own; -1 for a root.
      offsets: `V` vectors of 3 numbers, in the unit of the file, which BVH does not define.
      channels: channels of each joint in order, such as "Xposition" and "Zrotation".
      frame_time: seconds per frame.
      motion: `[T, K]` values of all channels; angles in degrees.
    """

    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    offsets: list[list[float]] = field(default_factory=list)
    channels: list[list[str]] = field(default_factory=list)
    frame_time: float = 0.0
    motion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


def parse_bvh(content: bytes, file: object) -> Bvh:
    """Parses a file.

    Raises:
      DataError: the file is invalid; the message has the line, the expected and the actual content.
    """
    lines = _Lines(content, file)
    bvh = Bvh()
    _parse_hierarchy(bvh, lines)
    count = lines.after("Frames:")
    if not count.isdecimal() or not 0 < len(count) < 10 or int(count) < 1:
        raise lines.error(f"expected Frames: and a number from 1 on, got {count!r}")
    frame_time = numbers([lines.after("Frame Time:")], str(file), lines.number)[0]
    if not 0 < frame_time < np.inf:
        raise lines.error(f"expected a Frame Time above 0, got {frame_time}")
    bvh.frame_time = frame_time
    if int(count) * len(bvh.names) > _MAX_POSITIONS:
        raise lines.error(
            f"expected at most {_MAX_POSITIONS} frames times joints, got {count} frames"
        )
    bvh.motion = _parse_motion(lines, (int(count), sum(map(len, bvh.channels))))
    return bvh


def joint_positions(bvh: Bvh) -> Float[np.ndarray, "T V 3"]:
    """World positions of all joints and end sites by forward kinematics, float64."""
    frames = len(bvh.motion)
    positions = np.zeros((frames, len(bvh.names), 3))
    turns: list[np.ndarray] = []  # of each joint, [T, 3, 3]
    column = 0
    for joint, (parent, channels) in enumerate(zip(bvh.parents, bvh.channels, strict=True)):
        place = np.tile(np.asarray(bvh.offsets[joint], float), (frames, 1))
        turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
        for channel in channels:
            values, axis = bvh.motion[:, column], _AXES[channel[0]]
            column += 1
            if channel.endswith("position"):
                place[:, axis] = values
            else:
                turn = turn @ _rotation(axis, np.deg2rad(values))
        if parent >= 0:
            place = positions[:, parent] + np.einsum("tij,tj->ti", turns[parent], place)
            turn = turns[parent] @ turn
        positions[:, joint] = place
        turns.append(turn)
    return positions


def bvh_text(bvh: Bvh) -> str:
    """The text of a BVH file; joints must be in depth-first order."""
    lines = ["HIERARCHY"]

    def walk(joint: int, margin: str = "") -> None:
        children = [child for child, parent in enumerate(bvh.parents) if parent == joint]
        name, channels = bvh.names[joint], bvh.channels[joint]
        title = f"{'JOINT' if margin else 'ROOT'} {name}"
        offset = " ".join(map(repr, bvh.offsets[joint]))
        lines.append(margin + ("End Site" if name.endswith(END) else title))
        lines.extend([f"{margin}{{", f"{margin}\tOFFSET {offset}"])
        if not name.endswith(END):
            lines.append(f"{margin}\tCHANNELS {len(channels)} {' '.join(channels)}")
        for child in children:
            walk(child, f"{margin}\t")
        lines.append(f"{margin}}}")

    for joint, parent in enumerate(bvh.parents):
        if parent < 0:
            walk(joint)
    lines += ["MOTION", f"Frames: {len(bvh.motion)}", f"Frame Time: {bvh.frame_time!r}"]
    lines += [" ".join(map(repr, map(float, frame))) for frame in bvh.motion]
    return "\n".join(lines) + "\n"


def _rotation(axis: int, angles: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 3 3"]:
    """Rotations about a coordinate axis; angles in radians, counter-clockwise."""
    matrix = np.zeros((len(angles), 3, 3))
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1
    matrix[:, one, one] = matrix[:, two, two] = np.cos(angles)
    matrix[:, two, one] = np.sin(angles)
    matrix[:, one, two] = -matrix[:, two, one]
    return matrix


class _Lines:
    """The non-empty lines of a file, with the number of the current line for errors."""

    def __init__(self, content: bytes, file: object):
        text = content.decode("utf-8", "replace").splitlines()
        self.filled = [(number, line) for number, line in enumerate(text, 1) if line.strip()]
        self.file, self.number, self.read = file, 1, 0

    def fields(self, expected: str) -> list[str]:
        """The fields of the next line."""
        if self.read == len(self.filled):
            raise self.error(f"expected {expected}, got the end of the file")
        self.number, line = self.filled[self.read]
        self.read += 1
        return line.split()

    def after(self, key: str) -> str:
        """The text that follows a key in the next line."""
        line = " ".join(self.fields(key))
        if not line.lower().startswith(key.lower()):
            raise self.error(f"expected {key}, got {line!r:.60}")
        return line[len(key) :].strip()

    def finite(self, fields: list[str]) -> list[float]:
        """Fields of the current line as numbers."""
        values = numbers(fields, str(self.file), self.number)
        if not np.isfinite(values).all():
            raise self.error("expected finite numbers")
        return values

    def error(self, message: str) -> DataError:
        """An error with the file and the current line."""
        return DataError(message, self.file, self.number)


def _parse_hierarchy(bvh: Bvh, lines: _Lines) -> None:
    """Reads the joints into `bvh`, up to MOTION."""
    open_joints: list[int] = []
    pending = False  # whether the opening brace of a joint is expected next
    first = lines.fields("HIERARCHY")
    if first != ["HIERARCHY"]:
        raise lines.error(f"expected HIERARCHY, got {' '.join(first)!r:.60}")
    while True:
        fields = lines.fields("MOTION")
        key = fields[0].upper()
        if pending != (key == "{"):
            raise lines.error(f"expected {'{' if pending else 'no {'}, got {fields[0]!r:.60}")
        if pending:
            open_joints.append(len(bvh.names) - 1)
            pending = False
        elif key == "}" and open_joints:
            open_joints.pop()
        elif key in ("ROOT", "JOINT", "END") and (key == "ROOT") == (not open_joints):
            pending = fields[-1] != "{"
            name = " ".join(fields[1:] if pending else fields[1:-1])
            _add_joint(bvh, key, name, open_joints[-1] if open_joints else -1, lines)
            if not pending:
                open_joints.append(len(bvh.names) - 1)
        elif key == "OFFSET" and open_joints and len(fields) == 4:
            bvh.offsets[open_joints[-1]] = lines.finite(fields[1:])
        elif key == "CHANNELS" and open_joints:
            bvh.channels[open_joints[-1]] = _channels(fields, lines)
        elif key == "MOTION" and not open_joints and bvh.names:
            return
        else:
            raise lines.error(
                "expected ROOT, JOINT, End Site, OFFSET x y z, CHANNELS, braces or MOTION in "
                f"their order, got {' '.join(fields)!r:.60}"
            )


def _add_joint(bvh: Bvh, key: str, name: str, parent: int, lines: _Lines) -> None:
    if key == "END":
        name = bvh.names[parent] + END
    if not name or name in bvh.names:
        raise lines.error(f"expected a unique joint name, got {name!r:.60}")
    if len(bvh.names) == _MAX_JOINTS:
        raise lines.error(f"expected at most {_MAX_JOINTS} joints")
    bvh.names.append(name)
    bvh.parents.append(parent)
    bvh.offsets.append([0.0, 0.0, 0.0])
    bvh.channels.append([])


def _channels(fields: list[str], lines: _Lines) -> list[str]:
    channels = [name[:1].upper() + name[1:].lower() for name in fields[2:]]
    if fields[1:2] != [str(len(channels))] or not set(channels) <= _CHANNELS:
        raise lines.error(f"expected a number and channels, got {' '.join(fields)!r:.80}")
    if len(set(channels)) < len(channels):
        raise lines.error(f"expected different channels, got {' '.join(channels)}")
    return channels


def _parse_motion(lines: _Lines, shape: tuple[int, int]) -> Float[np.ndarray, "T K"]:
    motion = []
    for frame in range(shape[0]):
        fields = lines.fields(f"{shape[0]} frames (here frame {frame})")
        if len(fields) != shape[1]:
            raise lines.error(f"expected {shape[1]} numbers, one per channel, got {len(fields)}")
        motion.append(lines.finite(fields))
    if lines.read < len(lines.filled):
        raise lines.error(f"expected the end of the file after {shape[0]} frames, got more lines")
    return np.array(motion)
