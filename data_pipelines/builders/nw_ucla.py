"""Northwestern-UCLA Multiview Action 3D: 10 actions, 10 subjects, 3 views, Kinect v1."""

import numpy as np

from data_pipelines.builders.base import Columns
from data_pipelines.builders.one_archive import OneArchive
from data_pipelines.errors import DataError
from data_pipelines.formats.raw import RawClip, checked, match_name
from data_pipelines.papers import Paper
from data_pipelines.skeletons import KINECT_V1
from data_pipelines.sources import Source
from data_pipelines.untrusted import load_json

ACTIONS = (
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
    "stand up", "put on clothes", "take off clothes", "throw", "carry",
)  # fmt: skip

# Action codes of file names in class id order; 7 and 10 do not exist.
CODES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)


def read_nw_ucla(file: str, content: bytes) -> RawClip:
    """Reads `a{code}_s{subject}_e{take}_v{view}.json`: `skeletons` `[T, 20, 3]`, `label` 1 to 10.

    Camera frame: metres, y up, z away from the camera; the right side of a subject who faces the
    camera is at +x. Left and right are the subject's.

    Raises:
      DataError: the name, the JSON, the array or the label is not as published.
    """
    name = match_name(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)\.json", file, "a01_s01_e00_v01.json")
    code, subject, _, view = map(int, name.groups())
    record = load_json(content, file)
    try:
        joints, label = record["skeletons"], int(record["label"])
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(
            f"expected keys skeletons and label, got {type(error).__name__}: {error}", file
        ) from error
    if code not in CODES or CODES.index(code) != label - 1:
        raise DataError(f"action code {code} and label {label} do not match", file)
    try:
        joints = np.array(joints, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected skeletons [T, 20, 3] of numbers ({error})", file) from error
    joints = checked(joints[None], file, KINECT_V1.joints)
    clip_id = name.string.removesuffix(".json")
    return RawClip(clip_id, joints, label=label - 1, subject=subject, view=view)


class NwUcla(OneArchive):
    """Northwestern-UCLA: 10 classes, 10 subjects, 3 views, 1484 clips."""

    SKELETON = KINECT_V1
    CLASSES = ACTIONS
    TOTAL = 1484
    ARCHIVE = "all_sqe.zip"
    SUFFIX = ".json"
    HOMEPAGE = "https://wangjiangb.github.io/my_data.html"
    DESCRIPTION = "Northwestern-UCLA: 10 actions, 3 views, 1388 clips, Kinect v1"
    PAPER = Paper("Wang et al., CVPR 2014", "https://arxiv.org/abs/1405.2941")
    CITATION = (
        "@inproceedings{wang2014crossview, author={Wang, Jiang and Nie, Xiaohan and Xia, Yin and "
        "Wu, Ying and Zhu, Song-Chun}, title={Cross-view Action Modeling, Learning and "
        "Recognition}, booktitle={CVPR}, year={2014}}"
    )
    INSTRUCTIONS = (
        "Get the NW-UCLA skeletons as JSON (all_sqe.zip, 14 MB, as published with CTR-GCN and "
        f"Shift-GCN; dataset page {HOMEPAGE}) and put all_sqe.zip, or the folder all_sqe, into "
        "<manual_dir>."
    )

    reader = staticmethod(read_nw_ucla)

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Views 1 and 2 train."""
        return {"xview": columns["view"] < 3}
