"""UTD-MHAD: 27 actions, 8 subjects, 4 trials, Kinect v1."""

from pathlib import Path

import numpy as np

from data_pipelines.atomic import FullDiskError
from data_pipelines.builders.base import Columns
from data_pipelines.builders.one_archive import OneArchive
from data_pipelines.download import download
from data_pipelines.errors import DataError
from data_pipelines.formats.raw import RawClip, checked, match_name
from data_pipelines.papers import Paper
from data_pipelines.skeletons import KINECT_V1
from data_pipelines.sources import FileSource, Source
from data_pipelines.untrusted import read_mat

ACTIONS = (
    "swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shot",
    "draw an X", "draw a circle clockwise", "draw a circle counterclockwise", "draw a triangle",
    "bowling", "boxing", "baseball swing", "tennis swing", "arm curl", "tennis serve", "push",
    "knock on a door", "catch", "pick up and throw", "jog in place", "walk in place",
    "sit to stand", "stand to sit", "forward lunge", "squat",
)  # fmt: skip

# UTD-MHAD orders the trunk joints from head to hip, Kinect v1 from hip to head.
_ORDER = [3, 2, 1, 0, *range(4, 20)]


def read_utd_mhad(file: str, content: bytes) -> RawClip:
    """Reads `a{class}_s{subject}_t{trial}_skeleton.mat` with `d_skel` `[20, 3, T]`.

    Camera frame: metres, y up, z away from the camera; the right side of a subject who faces the
    camera is at +x. Left and right are the subject's.

    Raises:
      DataError: the name, the file format or the array is not as published.
    """
    name = match_name(r"a(\d+)_s(\d+)_t(\d+)_skeleton\.mat", file, "a1_s1_t1_skeleton.mat")
    action, subject, _ = map(int, name.groups())
    if not 1 <= action <= len(ACTIONS):
        raise DataError(f"expected an action from 1 to {len(ACTIONS)}, got {action}", file)
    joints = read_mat(content, "d_skel", file)
    if joints.ndim != 3 or joints.shape[:2] != (20, 3):
        raise DataError(f"expected d_skel [20, 3, T], got {list(joints.shape)}", file)
    joints = checked(joints.transpose(2, 0, 1)[None, :, _ORDER], file, KINECT_V1.joints)
    clip_id = name.string.removesuffix("_skeleton.mat")
    return RawClip(clip_id, joints, label=action - 1, subject=subject)


class UtdMhad(OneArchive):
    """UTD-MHAD: 27 classes, 8 subjects, 861 clips."""

    SKELETON = KINECT_V1
    CLASSES = ACTIONS
    TOTAL = 861
    ARCHIVE = "Skeleton.zip"
    SUFFIX = ".mat"
    URL = "https://www.utdallas.edu/~kehtar/UTD-MAD/Skeleton.zip"
    # Of the file at URL. An archive in manual_dir may be another.
    SHA256 = "ed2209fd0fec19461320235e5e28b44ee392edf125e7c8e4338832ef9a2892cf"
    BYTES = 14_723_551
    HOMEPAGE = "https://www.utdallas.edu/~kehtar/UTD-MHAD.html"
    DESCRIPTION = "UTD-MHAD: 27 actions, 8 subjects, 861 clips, Kinect v1"
    PAPER = Paper("Chen et al., ICIP 2015", "https://www.utdallas.edu/~kehtar/UTD-MHAD.html")
    CITATION = (
        "@inproceedings{chen2015utdmhad, author={Chen, Chen and Jafari, Roozbeh and Kehtarnavaz, "
        "Nasser}, title={UTD-MHAD}, booktitle={ICIP}, year={2015}}"
    )
    INSTRUCTIONS = (
        "UTD-MHAD is downloaded automatically. Without a network, get "
        f"{URL} (15 MB) on another machine and put Skeleton.zip into <manual_dir>."
    )

    reader = staticmethod(read_utd_mhad)

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Odd subjects train."""
        return {"xsub": columns["subject"] % 2 == 1}

    def download(self, folder: Path, manual_dir: Path) -> FileSource:
        """The archive at `URL`, if it is the published one.

        Raises:
          FileNotFoundError: it cannot be downloaded; without a network, within seconds.
          DataError: it is another file.
        """
        file = folder / self.ARCHIVE
        try:
            download(self.URL, file, self.BYTES, self.SHA256)
        except DataError as error:
            advice = f"If you have one that you trust, put it into {manual_dir} as {self.ARCHIVE}"
            raise DataError(f"{error}. {advice}", self.name) from error
        except FullDiskError:
            raise
        except OSError as error:
            reason = f"{self.name} could not be downloaded ({error}).\n"
            raise FileNotFoundError(reason + self.missing(manual_dir)) from error
        return self.source_at(file)
