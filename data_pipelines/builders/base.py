"""What the project knows of a dataset before it reads a clip."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.protocols import published_splits
from data_pipelines.skeletons import Skeleton
from data_pipelines.sources import Source

# `label`, `subject`, `view`, `setup` and `clip_id` of all clips, each `[N]`.
Columns = dict[str, np.ndarray]


class Dataset:
    """One dataset; a subclass describes it.

    Attributes:
      name: as in configurations.
      SKELETON: joint layout of its clips.
      CLASSES: class names in class id order.
      SPLITS: dataset of splits.json whose published splits apply; empty: its own.
      DESCRIPTIONS: dataset whose shipped descriptions fit; empty: its own.
      TOTAL: published number of clips, to count the missing ones; 0: unknown.
      DROP_DUPLICATES: whether exact copies of clips are dropped; not where the published protocols
        count them.
      URL: of the archive, where it can be downloaded without registration; else empty.
      INSTRUCTIONS: how to get the archive; `<manual_dir>` stands for the folder.
      DESCRIPTION, HOMEPAGE, CITATION: for the metadata of the prepared files.
    """

    SKELETON: Skeleton
    CLASSES: tuple[str, ...]
    SPLITS = ""
    DESCRIPTIONS = ""
    TOTAL = 0
    DROP_DUPLICATES = True
    URL = ""
    INSTRUCTIONS = ""
    DESCRIPTION = ""
    HOMEPAGE = ""
    CITATION = ""

    def __init__(self, name: str):
        """Names the dataset."""
        self.name = name

    @property
    def store_name(self) -> str:
        """Name of its prepared files."""
        return self.name

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        """Name of a published split to its unseen classes."""
        return published_splits(self.SPLITS or self.name)

    @property
    def descriptions(self) -> str:
        """Dataset whose shipped descriptions fit, or a file with descriptions."""
        return self.DESCRIPTIONS or self.name

    @property
    def expected(self) -> str:
        """The contents of a manual_dir, for error messages."""
        raise NotImplementedError

    def find_source(self, manual_dir: Path) -> Source | None:
        """The raw files in `manual_dir`; None if some are missing."""
        raise NotImplementedError

    def download(self, fetch: Callable[[str], Any], manual_dir: Path) -> Source:
        """The raw files from the network; only datasets with a `URL` have them there.

        Args:
          fetch: downloads a URL and gives the path of the file.
          manual_dir: where the user can put the archive instead, for the error message.

        Raises:
          FileNotFoundError: it cannot be downloaded; says how to get it.
        """
        raise FileNotFoundError(self.missing(manual_dir))

    def origin(self, source: Source) -> str:
        """Identity of the raw files; when it changes, the prepared files are made again."""
        return f"{source.stamp()}\n{source.identity()}"

    def check(self, source: Source) -> None:
        """Refuses, before any clip is read, a source that lacks what `sides` needs.

        Raises:
          DataError: says what it lacks.
        """

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """The protocols.

        Args:
          columns: of all clips.
          source: where the clips came from.

        Returns:
          Protocol name to `[N]`, each `TRAIN`, `TEST` or `NEITHER`; the usual protocol first.
        """
        raise NotImplementedError

    def missing(self, manual_dir: Path) -> str:
        """The message for missing raw files."""
        return (
            f"{self.name}: expected {self.expected} in {manual_dir}, did not find all of it.\n"
            + self.INSTRUCTIONS.replace("<manual_dir>", str(manual_dir))
            + "\nOr name another folder with --config.data.manual_dir=..."
        )
