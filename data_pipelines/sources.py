"""Sources of raw clips: archives and folders, divided into items that are read independently.

A source is small and can be pickled, so that it can be sent to other processes.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.formats.raw import RawClip
from data_pipelines.skeletons import Skeleton
from data_pipelines.untrusted import inside, open_zip, read_member


def file_stamp(path: Path) -> str:
    """Size and modification time of a file, or of a link that leads to none."""
    stat = path.stat() if path.exists() else path.lstat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


@lru_cache(maxsize=4)
def _open_zip(path: Path, stamp: str) -> zipfile.ZipFile:
    """Opens a zip, once per process and `stamp`.

    Raises:
      DataError: the zip cannot be read, or is a decompression bomb.
    """
    return open_zip(path)


class Source(Protocol):
    """The input of `ingest`.

    Attributes:
      chunk: mean number of items in a part, the unit of parallel work and of resuming.
      parallel: whether several processes may read at once.
    """

    chunk: int
    parallel: bool

    @property
    def place(self) -> str:
        """Where the items are and what they are called, for errors."""

    def stamp(self) -> str:
        """A text that changes with the content; faster than the stamps of all items."""

    def identity(self) -> str:
        """A text that changes with the reader of the content."""

    def items(self) -> dict[str, str]:
        """Item names in order, each with a stamp that changes with the item's content."""

    def read(self, item: str) -> Iterable[RawClip]:
        """The clips of one item.

        Raises:
          DataError: the item cannot be used.
        """


@dataclass
class Archive:
    """The files with one suffix in zips and folders, sorted by name; zips are not unpacked."""

    paths: tuple[Path, ...]
    suffix: str

    def files(self) -> dict[str, str]:
        """Full names (`archive.zip/inner/name`), each with a stamp.

        Raises:
          DataError: a zip cannot be read.
        """
        return dict(sorted(pair for path in self.paths for pair in self._list(path)))

    def stamp(self) -> str:
        """See `Source`: the sizes and times of archives, and of all files in folders."""
        lines = []
        for path in self.paths:
            stamps = list(self._list(path)) if path.is_dir() else [file_stamp(path)]
            lines.append(f"{path} {hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]}")
        return "\n".join(lines)

    def _list(self, path: Path) -> Iterable[tuple[str, str]]:
        if path.is_dir():
            for file in sorted(path.rglob(f"*{self.suffix}")):
                if not file.is_dir():
                    yield str(file), file_stamp(file)
            return
        for info in _open_zip(path, file_stamp(path)).infolist():
            if info.filename.endswith(self.suffix) and not info.is_dir():
                yield f"{path}/{info.filename}", f"{info.file_size} {info.CRC}"

    def content(self, name: str) -> bytes:
        """The bytes of one file.

        Members of a zip are read and never written to disk, so that names such as `../x` are safe.

        Raises:
          DataError: the zip is damaged, the file is too large, or see `untrusted.inside`.
        """
        for path in self.paths:
            if path.is_dir():
                if Path(name).is_relative_to(path):
                    return inside(path, Path(name)).read_bytes()
            elif name.startswith(f"{path}/"):
                archive = _open_zip(path, file_stamp(path))
                return read_member(archive, name.removeprefix(f"{path}/"), name)
        raise DataError(f"expected a file in {' or '.join(map(str, self.paths))}", name)


@dataclass
class FileSource:
    """A `Source` of files with one clip each.

    Attributes:
      archive: of the files.
      reader: `(name, content)` to a clip.
      wanted: regular expression of the whole file name; other files are ignored.
      excluded: stems of files to leave out.
    """

    archive: Archive
    reader: Callable[[str, bytes], RawClip]
    wanted: str = ".*"
    excluded: frozenset[str] = frozenset()
    chunk: int = 200
    parallel: bool = True

    @property
    def place(self) -> str:
        return f"{', '.join(map(str, self.archive.paths))}, files *{self.archive.suffix}"

    def stamp(self) -> str:
        return self.archive.stamp()

    def identity(self) -> str:
        return getattr(self.reader, "__qualname__", repr(self.reader))

    def items(self) -> dict[str, str]:
        return {
            name: stamp
            for name, stamp in self.archive.files().items()
            if re.fullmatch(self.wanted, Path(name).name) and Path(name).stem not in self.excluded
        }

    def read(self, item: str) -> list[RawClip]:
        return [self.reader(item, self.archive.content(item))]


@dataclass
class ArraySource:
    """Base class: a `Source` of one file or folder with arrays of many clips.

    Attributes:
      path: the file or folder.
      skeleton, num_classes: joint layout and number of classes of the clips.
    """

    path: Path
    skeleton: Skeleton
    num_classes: int
    chunk: int = 500
    parallel: bool = False  # nothing to parse, and every process would load the whole file

    @property
    def place(self) -> str:
        return str(self.path)

    def stamp(self) -> str:
        files = sorted(self.path.glob("*_*.*")) if self.path.is_dir() else [self.path]
        return "\n".join(f"{file} {file_stamp(file)}" for file in files)

    def identity(self) -> str:
        return f"{type(self).__name__} {self.skeleton} {self.num_classes}"

    def sides(self, clip_ids: list[str]) -> dict[str, np.ndarray]:
        """The protocols: for each name `[N]`, each `TRAIN`, `TEST` or `NEITHER`."""
        raise NotImplementedError
