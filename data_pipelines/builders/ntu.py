"""TFDS builders of NTU RGB+D 60 and 120, from the owners' zips or the folders they unpack to."""

from importlib import resources
from pathlib import Path

import numpy as np

from data_pipelines.builders.base import Columns, SkeletonBuilder
from data_pipelines.classes_kinect_v2 import NTU_120
from data_pipelines.formats.ntu import read_ntu
from data_pipelines.sources import Archive, FileSource
from data_pipelines.skeletons import KINECT_V2

# The subjects that train in the cross-subject protocols, of 40 and of 106.
XSUB_60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
# fmt: off
XSUB_120 = (
    *XSUB_60, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84,
    85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
)
# fmt: on
TRAINING_CAMERAS = (2, 3)

# Each archive, and the names of the folders that it is known to unpack to.
_FIRST = ("nturgbd_skeletons_s001_to_s017.zip", "nturgb+d_skeletons")
_SECOND = ("nturgbd_skeletons_s018_to_s032.zip", "nturgb+d_skeletons120")


def excluded() -> frozenset[str]:
    """Stems of the recordings that every published protocol leaves out."""
    text = resources.files("data_pipelines").joinpath("ntu_excluded.txt").read_text("utf-8")
    return frozenset(line for line in text.split("\n") if line and not line.startswith("#"))


def xsub_60(columns: Columns) -> np.ndarray:
    """Cross-subject of NTU RGB+D 60, `[N]` bool, True for training."""
    return np.isin(columns["subject"], XSUB_60)


def xsub_120(columns: Columns) -> np.ndarray:
    """Cross-subject of NTU RGB+D 120, `[N]` bool, True for training."""
    return np.isin(columns["subject"], XSUB_120)


def xview(columns: Columns) -> np.ndarray:
    """Cross-view: cameras 2 and 3 train, `[N]` bool."""
    return np.isin(columns["view"], TRAINING_CAMERAS)


def xsetup(columns: Columns) -> np.ndarray:
    """Cross-setup: even setups train, `[N]` bool."""
    return columns["setup"] % 2 == 0


class _NtuBuilder(SkeletonBuilder, skip_registration=True):  # type: ignore[call-arg]
    """What both have in common."""

    SKELETON = KINECT_V2
    DROP_DUPLICATES = False
    HOMEPAGE = "https://rose1.ntu.edu.sg/dataset/actionRecognition/"
    ARCHIVES: tuple[tuple[str, ...], ...]
    WANTED: str

    @property
    def expected(self) -> str:
        """See `SkeletonBuilder`."""
        names = " and ".join(f"{archive[0]} (or its folder)" for archive in self.ARCHIVES)
        return f"{names}, or .skeleton files,"

    def find_source(self, manual_dir: Path) -> FileSource | None:
        """The archives or their folders, all of them; or .skeleton files as they are."""
        found = []
        for names in self.ARCHIVES:
            # A zip that has the folders' name inside is preferred: nothing can be missing from it.
            candidates = [manual_dir / name for name in names if (manual_dir / name).exists()]
            found += candidates[:1]
        if len(found) < len(self.ARCHIVES):
            if found or not manual_dir.is_dir() or not any(manual_dir.glob("*.skeleton")):
                return None
            found = [manual_dir]
        archive = Archive(tuple(found), ".skeleton")
        return FileSource(archive, read_ntu, self.WANTED, excluded())


class NtuRgbd60(_NtuBuilder):
    """NTU RGB+D 60: 60 classes, 40 subjects, 3 cameras, 56 578 usable clips."""

    DATASET = "ntu60"
    TOTAL = 56578
    name = "ntu_rgbd_60"
    CLASSES = NTU_120[:60]
    ARCHIVES = (_FIRST,)
    # A folder with everything serves too: NTU RGB+D 60 is its setups 1 to 17.
    WANTED = r"S0(0\d|1[0-7])C\d+P\d+R\d+A0([0-5]\d|60)\.skeleton"
    DESCRIPTION = "3D skeletons of NTU RGB+D: 60 actions, 40 subjects, Kinect v2."
    CITATION = (
        "@inproceedings{shahroudy2016ntu, author={Shahroudy, Amir and Liu, Jun and Ng, Tian-Tsong "
        "and Wang, Gang}, title={NTU RGB+D}, booktitle={CVPR}, year={2016}}"
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "NTU RGB+D needs registration: create an account at "
        "https://rose1.ntu.edu.sg/dataset/actionRecognition/, ask for access, and download the 3D "
        "skeletons of NTU RGB+D, nturgbd_skeletons_s001_to_s017.zip (5.8 GB, 56 880 files). Put "
        "the zip, as it is, into <manual_dir>; it is read in place."
    )

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """Cross-subject and cross-view."""
        return {"xsub": xsub_60(columns), "xview": xview(columns)}


class NtuRgbd120(_NtuBuilder):
    """NTU RGB+D 120: 120 classes, 106 subjects, 32 setups, 113 945 usable clips."""

    DATASET = "ntu120"
    TOTAL = 113945
    name = "ntu_rgbd_120"
    CLASSES = NTU_120
    ARCHIVES = (_FIRST, _SECOND)
    WANTED = r"S0[0-3]\dC\d+P\d+R\d+A(0\d\d|1[01]\d|120)\.skeleton"
    DESCRIPTION = "3D skeletons of NTU RGB+D 120: 120 actions, 106 subjects, Kinect v2."
    CITATION = (
        "@article{liu2019ntu, author={Liu, Jun and others}, title={NTU RGB+D 120}, "
        "journal={TPAMI}, year={2019}}"
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "NTU RGB+D 120 needs registration: create an account at "
        "https://rose1.ntu.edu.sg/dataset/actionRecognition/, ask for access, and download the 3D "
        "skeletons of both parts: nturgbd_skeletons_s001_to_s017.zip (5.8 GB) and "
        "nturgbd_skeletons_s018_to_s032.zip (4.5 GB), 114 480 files in all. Put both zips, as they "
        "are, into <manual_dir>; they are read in place."
    )

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """Cross-subject and cross-setup."""
        return {"xsub": xsub_120(columns), "xsetup": xsetup(columns)}
