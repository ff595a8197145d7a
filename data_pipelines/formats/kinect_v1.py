"""Readers of UTD-MHAD, NW-UCLA and Kinder-Gator: the bytes of one file to a `RawClip`.

All three come from a Kinect v1 and share its camera frame: metres, y up, z away from the camera,
the subject's right at +x when facing it. Sides are the subject's own; no clip is mirrored.
"""

import json
from pathlib import PurePosixPath

import numpy as np

from data_pipelines import classes
from data_pipelines.errors import DataError
from data_pipelines.formats.mat import read_mat
from data_pipelines.formats.raw import RawClip, checked, match_name
from data_pipelines.skeletons import KINECT_V1

# UTD-MHAD lists the trunk from the head down, Kinect v1 from the hip up.
_UTD_ORDER = [3, 2, 1, 0, *range(4, 20)]


def read_utd_mhad(file: str, content: bytes) -> RawClip:
    """`a{class}_s{subject}_t{trial}_skeleton.mat` with `d_skel` `[20, 3, T]`.

    Raises:
      DataError: the name, the file format or the array is not as published.
    """
    name = match_name(r"a(\d+)_s(\d+)_t(\d+)_skeleton\.mat", file, "a1_s1_t1_skeleton.mat")
    action, subject, _ = map(int, name.groups())
    if not 1 <= action <= len(classes.UTD_MHAD):
        raise DataError(f"expected an action from 1 to {len(classes.UTD_MHAD)}, got {action}", file)
    try:
        joints = read_mat(content, "d_skel", file)
    except KeyError:
        raise DataError("expected a variable d_skel [20, 3, T], found none", file) from None
    if joints.ndim != 3 or joints.shape[:2] != (20, 3):
        raise DataError(f"expected d_skel [20, 3, T], got {list(joints.shape)}", file)
    clip_id = name.string.removesuffix("_skeleton.mat")
    joints = checked(joints.transpose(2, 0, 1)[None, :, _UTD_ORDER], file, KINECT_V1.joints)
    return RawClip(clip_id, joints, action - 1, subject, 0)


def read_nw_ucla(file: str, content: bytes) -> RawClip:
    """`a{code}_s{subject}_e{take}_v{view}.json` with `skeletons` `[T, 20, 3]` and `label` 1-10.

    Raises:
      DataError: the name, the JSON, the array or the label is not as published.
    """
    name = match_name(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)\.json", file, "a01_s01_e00_v01.json")
    code, subject, _, view = map(int, name.groups())
    try:
        record = json.loads(content)
        joints, label = record["skeletons"], int(record["label"])
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON ({error.msg})", file, error.lineno) from error
    except (UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"expected keys skeletons and label, got {type(error).__name__}: {error}", file
        ) from error
    if code not in classes.NW_UCLA_CODES or classes.NW_UCLA_CODES.index(code) != label - 1:
        raise DataError(f"action code {code} and label {label} do not go together", file)
    try:
        joints = np.array(joints, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected skeletons [T, 20, 3] of numbers ({error})", file) from error
    joints = checked(joints[None], file, KINECT_V1.joints)
    return RawClip(name.string.removesuffix(".json"), joints, label - 1, subject, view)


def _column(joint: str) -> str:
    """left_hand as Kinder-Gator spells it: HandLeft."""
    words = joint.split("_")
    if words[0] in ("left", "right"):
        words = words[1:] + words[:1]
    return "".join(word.capitalize() for word in words)


def read_kinder_gator(file: str, content: bytes) -> RawClip:
    """`POSE-p{subject}_{number}-{Class-name}-{time}.csv`, a header and one row for each frame.

    The class is the text of the name: the same number means different classes for different
    subjects. The view is 0 for adults and 1 for children.

    Raises:
      DataError: the name, the header or a row is not as published, with the line.
    """
    name = match_name(
        r"POSE-p(\d+)_(\d+)-(.+?)-*-(\d+)\.csv",
        file,
        "POSE-p565_01-Raise-your-hand-1469182402284.csv",
    )
    slug = name[3].replace("-", " ")
    slug = classes.KINDER_GATOR_MISSPELT.get(slug.lower(), slug)
    known = {text.lower(): i for i, text in enumerate(classes.KINDER_GATOR)}
    if slug.lower() not in known:
        raise DataError(f"{slug!r} is not one of the {len(known)} classes", file)
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"expected ASCII text ({error.reason})", file) from error
    columns = ["Timestamp", *(_column(j) + axis for j in KINECT_V1.joints for axis in "XYZ")]
    header = lines[0].split(",") if lines else []
    if header[: len(columns)] != columns:
        raise DataError(
            f"expected columns {columns[0]}, {columns[1]}, ..., got {header[:3]}", file, 1
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split(",")
        try:
            values = [float(value) for value in fields[1 : len(columns)]]
        except ValueError as error:
            raise DataError(f"expected numbers ({error})", file, number) from error
        if len(values) != 60:
            raise DataError(f"expected 60 coordinates, got {len(values)}", file, number)
        rows.append(values)
    joints = checked(np.reshape(rows, (1, -1, 20, 3)), file, KINECT_V1.joints, first_line=2)
    clip_id = name.string.removesuffix(".csv")
    child = int("Children" in PurePosixPath(file).parts)
    return RawClip(clip_id, joints, known[slug.lower()], int(name[1]), child)
