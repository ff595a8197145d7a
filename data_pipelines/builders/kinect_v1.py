"""TFDS builders of the public Kinect v1 datasets that need no registration."""

import hashlib
from pathlib import Path

import numpy as np

from data_pipelines import classes
from data_pipelines.builders.base import Columns, SkeletonBuilder
from data_pipelines.errors import DataError
from data_pipelines.formats.kinect_v1 import read_kinder_gator, read_nw_ucla, read_utd_mhad
from data_pipelines.sources import Archive, FileSource


class OneArchiveBuilder(SkeletonBuilder, skip_registration=True):  # type: ignore[call-arg]
    """One archive, or the folder that it unpacks to, with one file for each clip."""

    ARCHIVE: str
    SUFFIX: str

    @property
    def expected(self) -> str:
        """See `SkeletonBuilder`."""
        return f"{self.ARCHIVE} or its folder"

    def find_source(self, manual_dir):
        """See `SkeletonBuilder`."""
        for candidate in (manual_dir / self.ARCHIVE, manual_dir / Path(self.ARCHIVE).stem):
            if candidate.exists():
                return self.source_at(candidate)
        return None

    def source_at(self, path: Path) -> FileSource:
        """The source in this archive or folder."""
        return FileSource(Archive((path,), self.SUFFIX), self.reader)


class UtdMhad(OneArchiveBuilder):
    """UTD-MHAD: 27 classes, 8 subjects, 861 clips."""

    DATASET = "utd_mhad"
    TOTAL = 861
    ARCHIVE = "Skeleton.zip"
    SUFFIX = ".mat"
    CLASSES = classes.UTD_MHAD
    DOWNLOADS = True
    URL = "http://www.utdallas.edu/~kehtar/UTD-MAD/Skeleton.zip"
    # Of what that URL serves. It has no https: anybody on the way could change it. An archive that
    # was put into manual_dir by hand may be another.
    SHA256 = "ed2209fd0fec19461320235e5e28b44ee392edf125e7c8e4338832ef9a2892cf"
    BYTES = 14_723_551
    HOMEPAGE = "https://www.utdallas.edu/~kehtar/UTD-MHAD.html"
    DESCRIPTION = "Skeleton modality of UTD-MHAD: 27 actions, 8 subjects, 4 trials, Kinect v1."
    CITATION = (
        "@inproceedings{chen2015utdmhad, author={Chen, Chen and Jafari, Roozbeh and Kehtarnavaz, "
        "Nasser}, title={UTD-MHAD}, booktitle={ICIP}, year={2015}}"
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "UTD-MHAD downloads itself. Without a network, fetch the skeleton data (14 MB) of "
        f"{HOMEPAGE} from {URL} and put Skeleton.zip into <manual_dir>."
    )

    reader = staticmethod(read_utd_mhad)

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """Odd subjects train."""
        return {"xsub": columns["subject"] % 2 == 1}

    def _source(self, dl_manager) -> FileSource:
        manual_dir = self._manual_dir_of(dl_manager)
        source = self.find_source(manual_dir)
        if source is not None:
            return source
        try:
            file = Path(dl_manager.download(self.URL))
        except Exception as error:  # TFDS passes on what its HTTP libraries raise
            reason = f"{self.name}: {self.URL} could not be downloaded ({error}).\n"
            raise FileNotFoundError(reason + self.missing(manual_dir)) from error
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != self.SHA256:
            raise DataError(
                f"expected the {self.BYTES} bytes with sha256 {self.SHA256}, got "
                f"{file.stat().st_size} with {found}: another file, or changed on its way. If you "
                f"have one that you trust, put it into {manual_dir} as {self.ARCHIVE}",
                self.URL,
            )
        return self.source_at(file)


class NwUcla(OneArchiveBuilder):
    """Northwestern-UCLA: 10 classes, 10 subjects, 3 views, 1484 clips."""

    DATASET = "nw_ucla"
    TOTAL = 1484
    ARCHIVE = "all_sqe.zip"
    SUFFIX = ".json"
    CLASSES = classes.NW_UCLA
    HOMEPAGE = "https://wangjiangb.github.io/my_data.html"
    DESCRIPTION = "Northwestern-UCLA Multiview Action 3D, skeletons as JSON, Kinect v1."
    CITATION = (
        "@inproceedings{wang2014crossview, author={Wang, Jiang and Nie, Xiaohan and Xia, Yin and "
        "Wu, Ying and Zhu, Song-Chun}, title={Cross-view Action Modeling, Learning and "
        "Recognition}, booktitle={CVPR}, year={2014}}"
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get the NW-UCLA skeletons as JSON (all_sqe.zip, 14 MB, the form in which CTR-GCN and "
        "Shift-GCN publish them; dataset page https://wangjiangb.github.io/my_data.html) and put "
        "all_sqe.zip, or the folder all_sqe, into <manual_dir>."
    )

    reader = staticmethod(read_nw_ucla)

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """Views 1 and 2 train."""
        return {"xview": columns["view"] < 3}


class KinderGator(OneArchiveBuilder):
    """Kinder-Gator: 58 classes, 10 adults and 10 children, 1159 clips."""

    DATASET = "kinder_gator"
    TOTAL = 1159
    ARCHIVE = "Kinder-Gator.zip"
    SUFFIX = ".csv"
    CLASSES = classes.KINDER_GATOR
    HOMEPAGE = "https://jainlab.cise.ufl.edu/pose.html"
    DESCRIPTION = "Kinder-Gator: motions of adults and children in 58 classes, Kinect v1."
    CITATION = (
        "@inproceedings{aloba2018kindergator, author={Aloba, Aishat and others}, "
        "title={Kinder-Gator: The UF Kinect Database of Child and Adult Motion}, "
        "booktitle={Eurographics}, year={2018}}"
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get Kinder-Gator (50 MB; page https://jainlab.cise.ufl.edu/pose.html) and put "
        "Kinder-Gator.zip, or the folder Kinder-Gator with Adults/ and Children/, into "
        "<manual_dir>."
    )

    reader = staticmethod(read_kinder_gator)

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """There is no usual protocol: every other adult and every other child train."""
        train: set[int] = set()
        for group in np.unique(columns["view"]):
            train.update(np.unique(columns["subject"][columns["view"] == group])[::2].tolist())
        return {"xsub": np.isin(columns["subject"], list(train))}
