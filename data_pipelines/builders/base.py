"""Base class of datasets: metadata, location of the raw files, and protocols."""

from pathlib import Path

import numpy as np

from data_pipelines.papers import THIS_PROJECT
from data_pipelines.protocols import published_splits
from data_pipelines.skeletons import Skeleton
from data_pipelines.sources import Source

# `label`, `subject`, `view`, `setup` and `clip_id` of all clips, each `[N]`.
Columns = dict[str, np.ndarray]


class Dataset:
    """One dataset; a subclass describes it.

    Attributes:
      name: name in configurations.
      SKELETON: joint layout of its clips.
      CLASSES: class names in class id order.
      SPLITS: entry of splits.json with its published splits; empty: `name`.
      DESCRIPTIONS: dataset whose shipped descriptions are used; empty: `name`.
      TOTAL: published number of clips, to count missing ones; 0: unknown.
      DROP_DUPLICATES: whether exact copies of clips are dropped; False if the published protocols
        count them.
      URL: address of the archive if it needs no registration, else empty.
      INSTRUCTIONS: how to get the archive; `<manual_dir>` is replaced by the folder.
      DESCRIPTION, HOMEPAGE, CITATION: metadata of the prepared files.
      PAPER: publication of the dataset.
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
    PAPER = THIS_PROJECT

    def __init__(self, name: str):
        """Names the dataset."""
        self.name = name

    @property
    def store_name(self) -> str:
        """Name of the prepared files."""
        return self.name

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        """Unseen classes of each published split, by its name."""
        return published_splits(self.SPLITS or self.name)

    @property
    def descriptions(self) -> str:
        """Dataset whose shipped descriptions are used, or a file of descriptions."""
        return self.DESCRIPTIONS or self.name

    @property
    def expected(self) -> str:
        """Expected content of `manual_dir`, for error messages."""
        raise NotImplementedError

    def find_source(self, manual_dir: Path) -> Source | None:
        """The raw files in `manual_dir`; None if files are missing."""
        raise NotImplementedError

    def download(self, folder: Path, manual_dir: Path) -> Source:
        """The raw files from the network; only datasets with a `URL` have them there.

        Args:
          folder: a temporary one, for the files.
          manual_dir: where the user can put the archive instead, for the error message.

        Raises:
          FileNotFoundError: it cannot be downloaded; the message explains how to get it.
        """
        raise FileNotFoundError(self.missing(manual_dir))

    def origin(self, source: Source) -> str:
        """Identity of the raw files; if it changes, the prepared files are made again."""
        return f"{source.stamp()}\n{source.identity()}"

    def check(self, source: Source) -> None:
        """Checks, before any clip is read, that a source has what `sides` needs.

        Raises:
          DataError: the source lacks something.
        """

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """The protocols: which clips train and which test.

        Args:
          columns: of all clips.
          source: of the clips.

        Returns:
          For each protocol name `[N]`, each `TRAIN`, `TEST` or `NEITHER`; the default comes first.
        """
        raise NotImplementedError

    def missing(self, manual_dir: Path) -> str:
        """The message for missing raw files."""
        return (
            f"{self.name}: expected {self.expected} in {manual_dir}, got none or a part.\n"
            + self.INSTRUCTIONS.replace("<manual_dir>", str(manual_dir))
            + "\nTo use another folder, add --config.data.manual_dir=FOLDER (export, reproduce: "
            "--manual_dir=FOLDER)."
        )
