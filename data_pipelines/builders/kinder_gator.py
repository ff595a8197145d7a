"""Kinder-Gator: motions of adults and children in 58 classes, Kinect v1."""

from pathlib import PurePosixPath

import numpy as np

from data_pipelines.builders.base import Columns
from data_pipelines.builders.one_archive import OneArchive
from data_pipelines.errors import DataError
from data_pipelines.formats.raw import RawClip, checked, match_name, numbers
from data_pipelines.papers import Paper
from data_pipelines.skeletons import KINECT_V1
from data_pipelines.sources import Source

# Class texts of the file names, hyphens replaced by spaces, in alphabetical order.
ACTIONS = (
    "bend your knee while raising your leg", "bend your other knee while raising your leg", "bow",
    "climb an imaginary ladder", "do a forward lunge", "do two jumping jacks", "draw a circle",
    "draw a square", "draw a triangle", "draw the letter A", "draw the letter C",
    "draw the letter K", "draw the letter M", "draw the letter X", "fly like a bird",
    "fly like an airplane", "jump", "jump as high as you can", "kick a ball",
    "kick a ball as far as you can", "kick a ball as far as you can with the other leg",
    "kick a ball with the other leg", "lift your leg to one side",
    "lift your leg to the other side", "make the letter A", "make the letter C",
    "make the letter K", "make the letter M", "make the letter P", "make the letter T",
    "make the letter X", "make the letter Y", "point at the camera", "punch",
    "push an imaginary button in front of you",
    "put your hands on your hips and lean to the other side",
    "put your hands on your hips and lean to the side", "put your hands on your hips and twist",
    "raise your arm to one side", "raise your arm to the other side", "raise your hand",
    "raise your other hand", "run in place", "run in place as fast as you can",
    "signal someone to come here", "signal someone to stop", "swim",
    "swipe across an imaginary screen in front of you from left to right",
    "swipe across an imaginary screen in front of you from right to left", "throw a ball",
    "throw a ball as far as you can", "throw a ball as far as you can with the other arm",
    "throw a ball with your other arm", "touch your toes", "walk in place",
    "walk in place as fast as you can", "wave your hand", "wave your other hand",
)  # fmt: skip

# Other spellings of class texts in file names.
MISSPELT = {"climb and imaginary ladder": "climb an imaginary ladder"}


def _column(joint: str) -> str:
    """A joint name in Kinder-Gator's spelling: `left_hand` to `HandLeft`."""
    words = joint.split("_")
    if words[0] in ("left", "right"):
        words = words[1:] + words[:1]
    return "".join(word.capitalize() for word in words)


_COLUMNS = ["Timestamp", *(_column(j) + axis for j in KINECT_V1.joints for axis in "XYZ")]


def read_kinder_gator(file: str, content: bytes) -> RawClip:
    """Reads `POSE-p{subject}_{number}-{Class-name}-{time}.csv`: a header, one line a frame.

    The class comes from the text of the name, since numbers mean different classes for different
    subjects. The view is 0 for adults and 1 for children. Camera frame: metres, y up, z away from
    the camera; the right side of a subject who faces the camera is at +x. Left and right are the
    subject's.

    Raises:
      DataError: the name, the header or a line is not as published.
    """
    name = match_name(
        r"POSE-p(\d+)_\d+-(.*[^-])-+\d+\.csv",
        file,
        "POSE-p565_01-Raise-your-hand-1469182402284.csv",
    )
    text = name[2].replace("-", " ")
    text = MISSPELT.get(text.lower(), text)
    labels = {known.lower(): label for label, known in enumerate(ACTIONS)}
    if text.lower() not in labels:
        raise DataError(f"{text!r} is not one of the {len(labels)} classes", file)
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"expected ASCII text ({error.reason})", file) from error
    header = lines[0].split(",") if lines else []
    if header[: len(_COLUMNS)] != _COLUMNS:
        raise DataError(
            f"expected columns {_COLUMNS[0]}, {_COLUMNS[1]}, ..., got {header[:3]}", file, 1
        )
    frames = []
    for number, line in enumerate(lines[1:], start=2):
        values = numbers(line.split(",")[1 : len(_COLUMNS)], file, number)
        if len(values) != 60:
            raise DataError(f"expected 60 coordinates, got {len(values)}", file, number)
        frames.append(values)
    joints = checked(np.reshape(frames, (1, -1, 20, 3)), file, KINECT_V1.joints, first_line=2)
    child = int("Children" in PurePosixPath(file).parts)
    clip_id = name.string.removesuffix(".csv")
    return RawClip(clip_id, joints, labels[text.lower()], subject=int(name[1]), view=child)


class KinderGator(OneArchive):
    """Kinder-Gator: 58 classes, 10 adults and 10 children, 1159 clips."""

    SKELETON = KINECT_V1
    CLASSES = ACTIONS
    TOTAL = 1159
    ARCHIVE = "Kinder-Gator.zip"
    SUFFIX = ".csv"
    HOMEPAGE = "https://jainlab.cise.ufl.edu/pose.html"
    DESCRIPTION = "Kinder-Gator: 58 actions of adults and children, 1159 clips, Kinect v1"
    PAPER = Paper("Aloba et al., Eurographics 2018", "https://jainlab.cise.ufl.edu/pose.html")
    CITATION = (
        "@inproceedings{aloba2018kindergator, author={Aloba, Aishat and others}, "
        "title={Kinder-Gator: The UF Kinect Database of Child and Adult Motion}, "
        "booktitle={Eurographics}, year={2018}}"
    )
    INSTRUCTIONS = (
        f"Get Kinder-Gator (50 MB; page {HOMEPAGE}) and put Kinder-Gator.zip, or the folder "
        "Kinder-Gator with Adults/ and Children/, into <manual_dir>."
    )

    reader = staticmethod(read_kinder_gator)

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Every other adult and every other child train; there is no published protocol."""
        train: set[int] = set()
        for group in np.unique(columns["view"]):
            train.update(np.unique(columns["subject"][columns["view"] == group])[::2].tolist())
        return {"xsub": np.isin(columns["subject"], list(train))}
