"""NTU RGB+D 60 and 120, from the owners' zips or the unpacked folders."""

from importlib import resources
from pathlib import Path

import numpy as np

from data_pipelines.builders.base import Columns, Dataset
from data_pipelines.formats.ntu import read_ntu
from data_pipelines.papers import Paper
from data_pipelines.skeletons import KINECT_V2
from data_pipelines.sources import Archive, FileSource, Source

# A001 to A120; NTU RGB+D 60 has the first 60.
ACTIONS = (
    "drink water", "eat meal", "brush teeth", "brush hair", "drop", "pick up", "throw", "sit down",
    "stand up", "clap", "read", "write", "tear up paper", "put on jacket", "take off jacket",
    "put on a shoe", "take off a shoe", "put on glasses", "take off glasses", "put on a hat or cap",
    "take off a hat or cap", "cheer up", "hand waving", "kick something", "reach into pocket",
    "hop", "jump up", "phone call", "play with phone or tablet", "type on a keyboard",
    "point to something", "take a selfie", "check time from watch", "rub two hands",
    "nod head or bow", "shake head", "wipe face", "salute", "put palms together",
    "cross hands in front", "sneeze or cough", "stagger", "fall down", "headache", "chest pain",
    "back pain", "neck pain", "nausea or vomiting", "fan self", "punch or slap someone",
    "kick someone", "push someone", "pat someone on the back", "point at someone", "hug someone",
    "give an object to someone", "touch someone's pocket", "shake hands", "walk towards each other",
    "walk apart from each other", "put on headphone", "take off headphone", "shoot at basket",
    "bounce ball", "tennis bat swing", "juggle table tennis ball", "hush", "flick hair", "thumb up",
    "thumb down", "make OK sign", "make victory sign", "staple book", "count money", "cut nails",
    "cut paper", "snap fingers", "open bottle", "sniff or smell", "squat down", "toss a coin",
    "fold paper", "ball up paper", "play magic cube", "apply cream on face", "apply cream on hand",
    "put on bag", "take off bag", "put object into bag", "take object out of bag", "open a box",
    "move heavy objects", "shake fist", "throw up cap or hat", "capitulate", "cross arms",
    "arm circles", "arm swings", "run on the spot", "butt kicks", "cross toe touch", "side kick",
    "yawn", "stretch oneself", "blow nose", "hit someone with object", "wield knife at someone",
    "knock someone over", "grab someone's stuff", "shoot at someone with gun",
    "step on someone's foot", "high-five", "cheers and drink", "carry object together",
    "take a photo of someone", "follow someone", "whisper in someone's ear", "exchange things",
    "support someone", "rock-paper-scissors",
)  # fmt: skip

# Training subjects of the cross-subject protocols: 20 of 40, and 53 of 106.
XSUB_60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
XSUB_120 = (
    *XSUB_60, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84,
    85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
)  # fmt: skip
TRAINING_CAMERAS = (2, 3)

_FIRST = ("nturgbd_skeletons_s001_to_s017.zip", "nturgb+d_skeletons")
_SECOND = ("nturgbd_skeletons_s018_to_s032.zip", "nturgb+d_skeletons120")


def excluded() -> frozenset[str]:
    """Stems of the recordings that all published protocols exclude."""
    text = resources.files("data_pipelines").joinpath("ntu_excluded.txt").read_text("utf-8")
    return frozenset(line for line in text.split("\n") if line and not line.startswith("#"))


class _NtuRgbd(Dataset):
    """Base class of both datasets.

    Attributes:
      ARCHIVES: each archive, and the names of its unpacked folders.
      WANTED: regular expression of the dataset's file names.
    """

    SKELETON = KINECT_V2
    DROP_DUPLICATES = False
    HOMEPAGE = "https://rose1.ntu.edu.sg/dataset/actionRecognition/"
    ARCHIVES: tuple[tuple[str, ...], ...]
    WANTED: str

    @property
    def expected(self) -> str:
        names = " and ".join(f"{archive[0]} (or its folder)" for archive in self.ARCHIVES)
        return f"{names}, or .skeleton files,"

    def find_source(self, manual_dir: Path) -> FileSource | None:
        """All archives or their folders; else the .skeleton files in `manual_dir`."""
        found: list[Path] = []
        for names in self.ARCHIVES:
            # The zip comes first: unlike a folder, it cannot be incomplete.
            candidates = [manual_dir / name for name in names if (manual_dir / name).exists()]
            found += candidates[:1]
        if len(found) < len(self.ARCHIVES):
            if found or not manual_dir.is_dir() or not any(manual_dir.glob("*.skeleton")):
                return None
            found = [manual_dir]
        archive = Archive(tuple(found), ".skeleton")
        return FileSource(archive, read_ntu, self.WANTED, excluded())


class NtuRgbd60(_NtuRgbd):
    """NTU RGB+D 60: 60 classes, 40 subjects, 3 cameras, 56 578 usable clips."""

    TOTAL = 56578
    CLASSES = ACTIONS[:60]
    DESCRIPTIONS = "ntu120"
    ARCHIVES = (_FIRST,)
    # Setups 1 to 17: a folder may contain both parts.
    WANTED = r"S0(0\d|1[0-7])C\d+P\d+R\d+A0([0-5]\d|60)\.skeleton"
    DESCRIPTION = "NTU RGB+D 60: 60 actions, 40 subjects, 56 578 clips, Kinect v2"
    PAPER = Paper("Shahroudy et al., CVPR 2016", "https://arxiv.org/abs/1604.02808")
    CITATION = (
        "@inproceedings{shahroudy2016ntu, author={Shahroudy, Amir and Liu, Jun and Ng, Tian-Tsong "
        "and Wang, Gang}, title={NTU RGB+D}, booktitle={CVPR}, year={2016}}"
    )
    INSTRUCTIONS = (
        "NTU RGB+D needs registration: create an account at "
        "https://rose1.ntu.edu.sg/dataset/actionRecognition/, ask for access, and download the 3D "
        "skeletons of NTU RGB+D, nturgbd_skeletons_s001_to_s017.zip (5.8 GB, 56 880 files). Put "
        "the zip into <manual_dir>; it is read without unpacking."
    )

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Cross-subject; cross-view: cameras 2 and 3 train."""
        return {
            "xsub": np.isin(columns["subject"], XSUB_60),
            "xview": np.isin(columns["view"], TRAINING_CAMERAS),
        }


class NtuRgbd120(_NtuRgbd):
    """NTU RGB+D 120: 120 classes, 106 subjects, 32 setups, 113 945 usable clips."""

    TOTAL = 113945
    CLASSES = ACTIONS
    ARCHIVES = (_FIRST, _SECOND)
    WANTED = r"S0[0-3]\dC\d+P\d+R\d+A(0\d\d|1[01]\d|120)\.skeleton"
    DESCRIPTION = "NTU RGB+D 120: 120 actions, 106 subjects, 113 945 clips, Kinect v2"
    PAPER = Paper("Liu et al., TPAMI 2019", "https://arxiv.org/abs/1905.04757")
    CITATION = (
        "@article{liu2019ntu, author={Liu, Jun and others}, title={NTU RGB+D 120}, "
        "journal={TPAMI}, year={2019}}"
    )
    INSTRUCTIONS = (
        "NTU RGB+D 120 needs registration: create an account at "
        "https://rose1.ntu.edu.sg/dataset/actionRecognition/, ask for access, and download the 3D "
        "skeletons of both parts: nturgbd_skeletons_s001_to_s017.zip (5.8 GB) and "
        "nturgbd_skeletons_s018_to_s032.zip (4.5 GB), 114 480 files in all. Put both zips into "
        "<manual_dir>; they are read without unpacking."
    )

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Cross-subject; cross-setup: even setups train."""
        return {
            "xsub": np.isin(columns["subject"], XSUB_120),
            "xsetup": columns["setup"] % 2 == 0,
        }
