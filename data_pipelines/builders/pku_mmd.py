"""TFDS builders of PKU-MMD, phase I and phase II."""

from pathlib import Path

import numpy as np

from data_pipelines.builders.base import Columns, SkeletonBuilder
from data_pipelines.classes_kinect_v2 import PKU_MMD
from data_pipelines.corpus import NEITHER, TEST, TRAIN
from data_pipelines.errors import DataError
from data_pipelines.formats.pku_mmd import PkuSource, parse_split
from data_pipelines.protocols import published_splits
from data_pipelines.sources import Archive, Source
from data_pipelines.skeletons import KINECT_V2


class PkuMmd(SkeletonBuilder):
    """PKU-MMD phase I: 51 classes, 1076 recordings of 66 subjects, 3 views, 21 545 actions."""

    DATASET = "pku_mmd"
    TOTAL = 21545
    name = "pku_mmd"
    PHASE = 1
    SKELETON = KINECT_V2
    CLASSES = PKU_MMD
    DROP_DUPLICATES = False
    HOMEPAGE = "https://www.icst.pku.edu.cn/struct/Projects/PKUMMD.html"
    DESCRIPTION = "3D skeletons of PKU-MMD, recordings cut into their labelled actions, Kinect v2."
    CITATION = (
        "@article{liu2017pkummd, author={Liu, Chunhui and Hu, Yueyu and Li, Yanghao and Song, "
        "Sijie and Liu, Jiaying}, title={PKU-MMD}, journal={arXiv:1703.07475}, year={2017}}"
    )
    ARCHIVES = ("Skeleton.7z", "Label_PKUMMD.7z")
    SPLITS = ("cross-subject.txt", "cross-view.txt")

    @property
    def expected(self) -> str:
        """See `SkeletonBuilder`."""
        return f"folders of {' and '.join(self.ARCHIVES)}, and the two split files,"

    @property
    def MANUAL_DOWNLOAD_INSTRUCTIONS(self) -> str:
        """What TFDS and `missing` show."""
        return (
            f"PKU-MMD is at {self.HOMEPAGE}, free for research. Download "
            f"{self.ARCHIVES[0]}, {self.ARCHIVES[1]} and the split files {self.SPLITS[0]} and "
            f"{self.SPLITS[1]}, unpack both archives (7z x ...) into <manual_dir>, so that the "
            "folders keep 'Skeleton' and 'Label' in their names, and put the split files there."
        )

    def find_source(self, manual_dir: Path) -> PkuSource | None:
        """Folders or zips with "skeleton" and with "label" in their names, and the split files."""
        found = sorted(manual_dir.glob("*")) if manual_dir.is_dir() else []
        places = [path for path in found if path.is_dir() or path.suffix == ".zip"]
        skeletons = tuple(path for path in places if "skeleton" in path.name.lower())
        labels = tuple(path for path in places if "label" in path.name.lower())
        if not skeletons or not labels or len(self._split_files(manual_dir)) < len(self.SPLITS):
            return None
        self._manual_dir = manual_dir
        return PkuSource(Archive(skeletons, ".txt"), Archive(labels, ".txt"), self.PHASE)

    def _split_files(self, manual_dir: Path) -> dict[str, Path]:
        """Protocol to file; the owners write both "cross-subject" and "cross_subject"."""
        files = {}
        for protocol, name in zip(("xsub", "xview"), self.SPLITS, strict=True):
            for spelling in (name, name.replace("-", "_")):
                for folder in (manual_dir, manual_dir / "Split"):
                    if (folder / spelling).exists():
                        files[protocol] = folder / spelling
        return files

    def origin(self, source: Source) -> str:
        """Changes with the split files too."""
        files = self._split_files(self._manual_dir).values()
        return super().origin(source) + "".join(
            file.read_text("utf-8", "replace") for file in files
        )

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """Cross-subject and cross-view, by the owners' lists of recordings."""
        recordings = [clip_id.rpartition("_")[0] for clip_id in columns["clip_id"].tolist()]
        sides = {}
        for protocol, file in self._split_files(self._manual_dir).items():
            train, test = parse_split(file.read_text("utf-8", "replace"), str(file))
            side = dict.fromkeys(train, TRAIN) | dict.fromkeys(test, TEST)
            sides[protocol] = np.array([side.get(name, NEITHER) for name in recordings], np.int8)
            if not (sides[protocol] == TRAIN).any():
                raise DataError(f"expected recordings such as {recordings[0]}, got none", file)
        return sides


class PkuMmd2(PkuMmd):
    """PKU-MMD phase II: 41 of the 51 classes, shorter recordings of 13 subjects, 3 views."""

    DATASET = "pku_mmd_2"
    TOTAL = 0
    name = "pku_mmd_2"
    PHASE = 2
    ARCHIVES = ("Skeleton_v2.7z", "Label_PKUMMD_v2.7z")
    SPLITS = ("cross_subject_v2.txt", "cross_view_v2.txt")

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        """Those of phase I, whose classes it shares."""
        return published_splits("pku_mmd")
