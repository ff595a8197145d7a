"""Base class of datasets of one archive with one file per clip."""

from collections.abc import Callable
from pathlib import Path

from data_pipelines.builders.base import Dataset
from data_pipelines.formats.raw import RawClip
from data_pipelines.sources import Archive, FileSource


class OneArchive(Dataset):
    """A dataset of one zip, or of its unpacked folder.

    Attributes:
      ARCHIVE: file name of the zip; its stem is the name of the folder.
      SUFFIX: suffix of the clip files.
      reader: function from `(name, content)` of a file to its clip.
    """

    ARCHIVE: str
    SUFFIX: str
    reader: Callable[[str, bytes], RawClip]

    @property
    def expected(self) -> str:
        return f"{self.ARCHIVE} or its folder"

    def find_source(self, manual_dir: Path) -> FileSource | None:
        for candidate in (manual_dir / self.ARCHIVE, manual_dir / Path(self.ARCHIVE).stem):
            if candidate.exists():
                return self.source_at(candidate)
        return None

    def source_at(self, path: Path) -> FileSource:
        """The clips of this archive or folder."""
        return FileSource(Archive((path,), self.SUFFIX), self.reader)
