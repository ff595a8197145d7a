"""A folder of clip archives as a dataset, without a description file."""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from data_pipelines.builders.base import Columns, Dataset
from data_pipelines.clip_files import CommonClips
from data_pipelines.corpus import TEST, TRAIN
from data_pipelines.errors import DataError
from data_pipelines.formats.clip_archive import SUFFIX, is_archive, read_archive
from data_pipelines.formats.raw import RawClip
from data_pipelines.layouts import COMMON
from data_pipelines.sources import Source, file_stamp
from data_pipelines.untrusted import inside

VERSION = 1  # of the processing of a clip


def find_archives(folder: Path) -> list[Path]:
    """The clip archives in a folder and its subfolders, sorted by name."""
    return sorted(file for file in folder.rglob(f"*{SUFFIX}") if is_archive(file))


@lru_cache(maxsize=1)
def _opened(file: Path, stamp: str) -> CommonClips:
    return CommonClips(file)


@dataclass
class ArchiveSource:
    """A `Source` of the clips of archives, in the common skeleton.

    Attributes:
      folder: folder of the archives.
      files: number of clips of each archive, in order.
      classes: class names in class id order.
      subjects: subject names in subject number order.
    """

    folder: Path
    files: dict[Path, int]
    classes: tuple[str, ...]
    subjects: tuple[str, ...]
    chunk: int = 500
    parallel: bool = False  # every process would load the whole archive

    @property
    def place(self) -> str:
        return str(self.folder)

    def stamp(self) -> str:
        return "\n".join(f"{file} {file_stamp(file)}" for file in self.files)

    def identity(self) -> str:
        return f"{type(self).__name__} {VERSION} {self.classes} {self.subjects}"

    def items(self) -> dict[str, str]:
        """See `Source`; an item is one clip, `file|index`."""
        items: dict[str, str] = {}
        for file, count in self.files.items():
            items |= dict.fromkeys((f"{file}|{index}" for index in range(count)), file_stamp(file))
        return items

    def read(self, item: str) -> list[RawClip]:
        name, _, index = item.rpartition("|")
        file = Path(name)
        clips = _opened(file, file_stamp(file))
        clip = clips.clip(int(index), str(file.relative_to(self.folder).with_suffix("")))
        if clip.label is None:
            raise DataError(f"clip {clip.id} has no label", file)
        return [
            RawClip(
                clip.id,
                clip.joints,
                self.classes.index(clip.label),
                self.subjects.index(clip.subject),
                notes=dict.fromkeys(clip.statements, 1),
            )
        ]


class ArchiveDataset(Dataset):
    """The archives of a folder; classes and subjects with equal names are merged."""

    DROP_DUPLICATES = False
    SKELETON = COMMON
    expected = f"clip archives (*{SUFFIX})"

    def __init__(self, manual_dir: Path):
        """Reads the archives' classes and subjects.

        Raises:
          DataError: an archive cannot be read, or there are fewer than two classes.
        """
        name = re.sub(r"[^a-z0-9]+", "_", manual_dir.name.lower()).strip("_")
        super().__init__(name if name[:1].isalpha() else f"clips_{name}".strip("_"))
        self.manual_dir = manual_dir
        self.DESCRIPTION = f"The clip archives of {manual_dir}."
        self.CLASSES = self._source.classes
        if len(self.CLASSES) < 2:
            raise DataError(
                f"expected clips of 2 or more classes, got {', '.join(self.CLASSES) or 'none'}",
                manual_dir,
            )

    @property
    def store_name(self) -> str:
        """See `Dataset`; differs from the name of a public dataset."""
        return f"custom_{self.name}"

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        return {}

    @cached_property
    def _source(self) -> ArchiveSource:
        files: dict[Path, int] = {}
        classes: dict[str, None] = {}
        subjects: set[str] = set()
        bad: list[DataError] = []
        for file in find_archives(self.manual_dir):
            try:
                archive = read_archive(inside(self.manual_dir, file))
            except DataError as error:
                bad.append(error)
                files[file] = 1  # an item that cannot be read, which `skip_bad` can skip
                continue
            files[file] = len(archive)
            used = np.unique(archive.labels)
            classes |= dict.fromkeys(archive.class_names[label] for label in used if label >= 0)
            subjects |= set(archive.subjects)
        if bad and len(bad) == len(files):
            raise bad[0]
        return ArchiveSource(self.manual_dir, files, tuple(classes), tuple(sorted(subjects)))

    def find_source(self, manual_dir: Path) -> Source:
        return self._source

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Every other subject trains; with a single subject, every other clip of each class."""
        subjects = np.unique(columns["subject"], return_inverse=True)[1]
        if subjects.any():
            return {"xsub": np.where(subjects % 2 == 0, TRAIN, TEST)}
        side = np.full(len(subjects), TEST)
        for label in np.unique(columns["label"]):
            side[np.flatnonzero(columns["label"] == label)[::2]] = TRAIN
        return {"alternate_clips": side}
