"""PKU-MMD, phase I and phase II."""

from pathlib import Path

import numpy as np

from data_pipelines.builders.base import Columns, Dataset
from data_pipelines.corpus import NEITHER, TEST, TRAIN
from data_pipelines.errors import DataError
from data_pipelines.formats.pku_mmd import PkuSource, parse_split
from data_pipelines.papers import Paper
from data_pipelines.skeletons import KINECT_V2
from data_pipelines.sources import Archive, Source
from data_pipelines.untrusted import inside

# Action ids 1 to 51 of Actions.xlsx.
ACTIONS = (
    "bow", "brush hair", "brush teeth", "check time from watch", "cheer up", "clap",
    "cross hands in front", "drink water", "drop", "eat meal or snack", "fall down",
    "give something to someone", "hand waving", "shake hands", "hop on one foot", "hug someone",
    "jump up", "kick someone", "kick something", "make a phone call", "pat someone on the back",
    "pick up", "play with phone or tablet", "point finger at someone",
    "point to something with finger", "punch or slap someone", "push someone",
    "put on a hat or cap", "put something inside pocket", "read", "rub two hands together",
    "salute", "sit down", "stand up", "take off a hat or cap", "take off glasses",
    "take off jacket", "take out something from pocket", "take a selfie", "tear up paper", "throw",
    "touch back", "touch chest", "touch head", "touch neck", "type on a keyboard",
    "use a fan with hand or paper", "put on jacket", "put on glasses", "wipe face", "write",
)  # fmt: skip


class PkuMmd(Dataset):
    """PKU-MMD phase I: 51 classes, 1076 recordings of 66 subjects, 3 views, 21 545 actions.

    Attributes:
      PHASE: 1 or 2; the phases name their recordings differently.
      ARCHIVES: the archives of skeletons and labels.
      SPLIT_FILES: the owners' lists of recordings, cross-subject and cross-view.
    """

    SKELETON = KINECT_V2
    CLASSES = ACTIONS
    TOTAL = 21545
    DROP_DUPLICATES = False
    HOMEPAGE = "https://www.icst.pku.edu.cn/struct/Projects/PKUMMD.html"
    DESCRIPTION = "PKU-MMD phase I: 51 actions, cut from recordings, 21 545 clips, Kinect v2"
    PAPER = Paper("Liu et al., 2017", "https://arxiv.org/abs/1703.07475")
    CITATION = (
        "@article{liu2017pkummd, author={Liu, Chunhui and Hu, Yueyu and Li, Yanghao and Song, "
        "Sijie and Liu, Jiaying}, title={PKU-MMD}, journal={arXiv:1703.07475}, year={2017}}"
    )
    INSTRUCTIONS = (
        f"PKU-MMD is at {HOMEPAGE}, free for research. Download these archives and split files, "
        "unpack the archives (7z x ...) into <manual_dir> and put the split files there. The names "
        "of the folders must contain 'Skeleton' and 'Label'."
    )
    PHASE = 1
    ARCHIVES = ("Skeleton.7z", "Label_PKUMMD.7z")
    SPLIT_FILES = ("cross-subject.txt", "cross-view.txt")

    @property
    def expected(self) -> str:
        folders, files = " and ".join(self.ARCHIVES), " and ".join(self.SPLIT_FILES)
        return f"the folders of {folders}, and {files},"

    def find_source(self, manual_dir: Path) -> PkuSource | None:
        """Folders or zips whose names contain "skeleton" or "label", and the split files."""
        found = sorted(manual_dir.glob("*")) if manual_dir.is_dir() else []
        paths = [path for path in found if path.is_dir() or path.suffix == ".zip"]
        skeletons = tuple(path for path in paths if "skeleton" in path.name.lower())
        labels = tuple(path for path in paths if "label" in path.name.lower())
        split_files = self._split_files(manual_dir)
        if not skeletons or not labels or len(split_files) < len(self.SPLIT_FILES):
            return None
        return PkuSource(
            Archive(skeletons, ".txt"), Archive(labels, ".txt"), self.PHASE, split_files
        )

    def _split_files(self, manual_dir: Path) -> dict[str, Path]:
        """Split file of each protocol; both "cross-subject" and "cross_subject" are published."""
        files = {}
        for protocol, name in zip(("xsub", "xview"), self.SPLIT_FILES, strict=True):
            for spelling in (name, name.replace("-", "_")):
                for folder in (manual_dir, manual_dir / "Split"):
                    if (folder / spelling).exists():
                        files[protocol] = folder / spelling
        return files

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Cross-subject and cross-view, from the owners' lists of recordings."""
        assert isinstance(source, PkuSource)
        recordings = [clip_id.rpartition("_")[0] for clip_id in columns["clip_id"].tolist()]
        sides = {}
        for protocol, file in source.split_files.items():
            text = inside(file.parent, file).read_text("utf-8", "replace")
            train, test = parse_split(text, str(file))
            side = dict.fromkeys(train, TRAIN) | dict.fromkeys(test, TEST)
            sides[protocol] = np.array([side.get(name, NEITHER) for name in recordings], np.int8)
            if not (sides[protocol] == TRAIN).any():
                raise DataError(f"expected recordings such as {recordings[0]}, got none", file)
        return sides


class PkuMmd2(PkuMmd):
    """PKU-MMD phase II: 41 of the 51 classes, shorter recordings of 13 subjects, 3 views."""

    SPLITS = DESCRIPTIONS = "pku_mmd"
    DESCRIPTION = "PKU-MMD phase II: 41 of these actions, 13 subjects, Kinect v2"
    TOTAL = 0
    PHASE = 2
    ARCHIVES = ("Skeleton_v2.7z", "Label_PKUMMD_v2.7z")
    SPLIT_FILES = ("cross_subject_v2.txt", "cross_view_v2.txt")
