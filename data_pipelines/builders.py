"""TFDS builders (array_record, no TensorFlow) of the public datasets that need no registration."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import classes
from data_pipelines.errors import DataError
from data_pipelines.formats import read_kinder_gator, read_nw_ucla, read_utd_mhad

SPLIT = "clips"


def iterate_archive(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file with this suffix, sorted by name, in a zip or a folder.

    Raises:
      DataError: the zip cannot be read.
    """
    if path.is_dir():
        for file in sorted(path.rglob(f"*{suffix}")):
            yield str(file), file.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(suffix):
                    yield f"{path}/{name}", archive.read(name)
    except zipfile.BadZipFile as error:
        raise DataError(f"not a readable zip archive ({error})", path) from error


class SkeletonBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """One file, one clip: subclasses name the archive, the reader and the classes."""

    VERSION = tfds.core.Version("1.0.0")
    ARCHIVE: str
    SUFFIX: str
    CLASSES: tuple[str, ...]
    CITATION: str
    HOMEPAGE: str
    DESCRIPTION: str
    DOWNLOADS = False

    def _read(self, file: str, content: bytes):
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "clip": tfds.features.Tensor(
                        shape=(None, None, 20, 3), dtype=np.float32, encoding="zlib"
                    ),
                    "num_frames": np.int32,
                    "label": tfds.features.ClassLabel(names=list(self.CLASSES)),
                    "subject": np.int32,
                    "view": np.int32,
                    "clip_id": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

    def find_source(self, manual_dir: Path) -> Path | None:
        """The archive in `manual_dir`, or the folder it unpacks to; None if neither is there."""
        for candidate in (manual_dir / self.ARCHIVE, manual_dir / Path(self.ARCHIVE).stem):
            if candidate.exists():
                return candidate
        return None

    def missing(self, manual_dir: Path) -> str:
        """What to say when there is no source."""
        return (
            f"{self.name}: expected {self.ARCHIVE} or its folder in {manual_dir}, found neither.\n"
            + self.MANUAL_DOWNLOAD_INSTRUCTIONS.replace("<manual_dir>", str(manual_dir))
            + "\nOr name another folder with --config.data.manual_dir=..."
        )

    def _source(self, dl_manager) -> Path:
        manual_dir = Path(dl_manager.manual_dir)
        source = self.find_source(manual_dir)
        if source is None:
            raise FileNotFoundError(self.missing(manual_dir))
        return source

    def _split_generators(self, dl_manager):
        return {SPLIT: self._generate_examples(self._source(dl_manager))}

    def _generate_examples(self, source: Path):
        index = -1
        for index, (file, content) in enumerate(iterate_archive(source, self.SUFFIX)):
            raw = self._read(file, content)
            yield (
                index,
                {
                    "clip": raw.joints,
                    "num_frames": raw.joints.shape[1],
                    "label": raw.label,
                    "subject": raw.subject,
                    "view": raw.view,
                    "clip_id": raw.clip_id,
                },
            )
        if index < 0:
            raise DataError(f"expected {self.SUFFIX} files, found none", source)


class UtdMhad(SkeletonBuilder):
    """UTD-MHAD: 27 classes, 8 subjects, 861 clips."""

    ARCHIVE = "Skeleton.zip"
    SUFFIX = ".mat"
    CLASSES = classes.UTD_MHAD
    DOWNLOADS = True
    URL = "http://www.utdallas.edu/~kehtar/UTD-MAD/Skeleton.zip"
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

    def _read(self, file, content):
        return read_utd_mhad(file, content)

    def _source(self, dl_manager) -> Path:
        source = self.find_source(Path(dl_manager.manual_dir))
        if source is not None:
            return source
        try:
            return Path(dl_manager.download(self.URL))
        except Exception as error:  # TFDS passes on what its HTTP libraries raise
            reason = f"{self.name}: {self.URL} could not be downloaded ({error}).\n"
            raise FileNotFoundError(reason + self.missing(Path(dl_manager.manual_dir))) from error


class NwUcla(SkeletonBuilder):
    """Northwestern-UCLA: 10 classes, 10 subjects, 3 views, 1484 clips."""

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

    def _read(self, file, content):
        return read_nw_ucla(file, content)


class KinderGator(SkeletonBuilder):
    """Kinder-Gator: 58 classes, 10 adults and 10 children, 1159 clips."""

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

    def _read(self, file, content):
        return read_kinder_gator(file, content)


BUILDERS: dict[str, type[SkeletonBuilder]] = {
    "utd_mhad": UtdMhad,
    "nw_ucla": NwUcla,
    "kinder_gator": KinderGator,
}
