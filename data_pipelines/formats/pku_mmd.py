"""Reader of PKU-MMD: long text recordings, cut into clips according to their label files.

A recording has one line per frame with 150 numbers: x, y, z of the 25 Kinect v2 joints of two
persons, metres, zeros for an absent person. Its label file has one line per action: class id (from
1), first frame, end frame, confidence. Frames are counted from 0; the end frame is excluded.
"""

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.formats.raw import RawClip, checked, checked_label, match_name, numbers
from data_pipelines.skeletons import KINECT_V2
from data_pipelines.sources import Archive, file_stamp

NUMBERS = 150
CUT = "actions cut at the end of their recording"
NUM_CLASSES = 51
VIEWS = {"L": 1, "M": 2, "R": 3}
# Names of the recordings of phase I and phase II.
PHASES = {1: r"(\d+)-([LMR])", 2: r"A\d+N(\d+)-([LMR])"}


@dataclass
class PkuSource:
    """A `Source` of the recordings of one phase with their labels.

    Attributes:
      skeletons, labels: the text files; a recording has the same file name in both.
      phase: 1 or 2; files of the other phase are ignored.
      split_files: the owners' list of recordings for each protocol.
    """

    skeletons: Archive
    labels: Archive
    phase: int
    split_files: dict[str, Path]
    chunk: int = 8
    parallel: bool = True

    @property
    def place(self) -> str:
        return ", ".join(map(str, self.skeletons.paths))

    def stamp(self) -> str:
        lists = [f"{file} {file_stamp(file)}" for file in self.split_files.values()]
        return "\n".join([self.skeletons.stamp(), self.labels.stamp(), *lists])

    def identity(self) -> str:
        return f"pku_mmd {self.phase}"

    def items(self) -> dict[str, str]:
        labels = {Path(name).name: (name, stamp) for name, stamp in self.labels.files().items()}
        items = {}
        for name, stamp in self.skeletons.files().items():
            if re.fullmatch(PHASES[self.phase] + r"\.txt", Path(name).name):
                label_file, label_stamp = labels.get(Path(name).name, ("", ""))
                items[f"{name}|{label_file}"] = f"{stamp} {label_stamp}"
        return items

    def read(self, item: str) -> list[RawClip]:
        file, _, label_file = item.partition("|")
        name = match_name(PHASES[self.phase] + r"\.txt", file, "0002-L.txt")
        if not label_file:
            raise DataError("expected a label file of the same name, found none", file)
        frames = parse_frames(self.skeletons.content(file), file)
        label_text = self.labels.content(label_file)
        clips: list[RawClip] = []
        for label, first, end in parse_labels(label_text, label_file, len(frames)):
            # [T, M V 3] to [M, T, V, 3]
            joints = frames[first:end].reshape(-1, 2, 25, 3).transpose(1, 0, 2, 3)
            joints = joints[: 2 if joints[1].any() else 1]
            clips.append(
                RawClip(
                    clip_id=f"{Path(file).stem}_{len(clips):02d}",
                    joints=np.ascontiguousarray(joints),
                    label=label,
                    subject=int(name[1]),
                    view=VIEWS[name[2]],
                    notes={CUT: 1} if end > len(frames) else {},
                )
            )
        return clips


def parse_frames(content: bytes, file: str) -> np.ndarray:
    """The frames of a recording, `[T, 150]` float32, metres.

    Raises:
      DataError: a line does not have 150 finite numbers; the message has its number.
    """
    lines = content.rstrip().splitlines()
    if not lines:
        raise DataError("expected lines of 150 numbers, got an empty file", file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of empty files
            frames = np.loadtxt(io.BytesIO(content), np.float64, comments=None, ndmin=2)
    except (ValueError, UserWarning):
        frames = np.zeros((0, 0))
    if frames.shape != (len(lines), NUMBERS):
        for number, line in enumerate(lines, start=1):
            _check_line(line, file, number)
        raise DataError(f"expected {NUMBERS} numbers in each line, separated by spaces", file)
    shaped = frames.reshape(1, -1, 50, 3)
    names = tuple(f"{joint} of person {m}" for m in (0, 1) for joint in KINECT_V2.joints)
    return checked(shaped, file, names, first_line=1).reshape(-1, NUMBERS)


def _check_line(line: bytes, file: str, number: int) -> None:
    fields = line.split()
    if len(fields) != NUMBERS:
        raise DataError(f"expected {NUMBERS} numbers, got {len(fields)} fields", file, number)
    numbers(fields, file, number)


def parse_labels(content: bytes, file: str, num_frames: int) -> list[tuple[int, int, int]]:
    """The actions of a recording: class id from 0, first frame, end frame.

    Raises:
      DataError: a line is not `id,first,end,confidence`, or has no frames; the message has its
        number.
    """
    actions = []
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",")]
        whole = all(field.isdecimal() and len(field) < 10 for field in fields[:3])
        if len(fields) not in (3, 4) or not whole:
            raise DataError(
                f"expected id,first frame,end frame,confidence, got {line[:60]!r}", file, number
            )
        label, first, end = map(int, fields[:3])
        checked_label(label - 1, NUM_CLASSES, f"{file}, line {number}")
        if not first < min(end, num_frames):
            raise DataError(
                f"expected frames first < end within {num_frames} frames, got {first} and {end}",
                file,
                number,
            )
        actions.append((label - 1, first, end))
    if not actions:
        raise DataError("expected at least one action, got none", file)
    return actions


def parse_split(text: str, file: str) -> tuple[set[str], set[str]]:
    """The training and the test recordings of a split file.

    The file has a line that begins with "Training", names separated by commas, a line that begins
    with "Valid" (the rest of the word varies between files), and names again.

    Raises:
      DataError: a part is missing, or a name is in both.
    """
    parts: dict[str, set[str]] = {}
    names: set[str] | None = None
    for line in text.splitlines():
        heading = re.match(r"\s*(train|valid|test)[^:]*:?", line, re.IGNORECASE)
        if heading:
            names = parts.setdefault("train" if heading[1].lower() == "train" else "test", set())
            line = line[heading.end() :]
        if names is not None:
            names.update(name for name in re.split(r"[,\s]+", line) if name)
    if not parts.get("train") or not parts.get("test"):
        raise DataError("expected a list of training and a list of validation videos", file)
    both = parts["train"] & parts["test"]
    if both:
        raise DataError(f"{sorted(both)[0]} is in both lists", file)
    return parts["train"], parts["test"]
