"""A user's own data, described by a dataset.yaml."""

from pathlib import Path

import numpy as np

from data_pipelines.builders.archives import ArchiveDataset, find_archives
from data_pipelines.builders.base import Columns, Dataset
from data_pipelines.corpus import TEST, TRAIN
from data_pipelines.custom_spec import ARRAY_FORMATS, SPEC, load_spec
from data_pipelines.errors import DataError
from data_pipelines.formats.custom import SUFFIXES, CustomReader
from data_pipelines.formats.gcn_arrays import GcnArraySource
from data_pipelines.formats.pyskl import PysklSource
from data_pipelines.sources import Archive, ArraySource, FileSource, Source
from data_pipelines.untrusted import inside


def custom_dataset(manual_dir: Path) -> Dataset:
    """The dataset of dataset.yaml; without one, the dataset of the clip archives in the folder.

    Raises:
      FileNotFoundError, DataError: see `load_spec` and `ArchiveDataset`.
    """
    if not (manual_dir / SPEC).is_file() and find_archives(manual_dir):
        return ArchiveDataset(manual_dir)
    return CustomDataset(manual_dir)


class CustomDataset(Dataset):
    """A folder of files and a `dataset.yaml` that describes them."""

    DROP_DUPLICATES = False
    DESCRIPTION = "Your own clips of any skeleton, or clip archives"
    INSTRUCTIONS = f"Put your files and a {SPEC} into <manual_dir>."

    def __init__(self, manual_dir: Path):
        """Reads the description.

        Raises:
          FileNotFoundError, DataError: see `load_spec`.
        """
        self.spec = load_spec(manual_dir)
        super().__init__(self.spec.name)
        self.SKELETON, self.CLASSES = self.spec.skeleton, self.spec.classes
        self.DESCRIPTION = f"Described by {manual_dir / SPEC}."

    @property
    def store_name(self) -> str:
        """See `Dataset`; differs from the name of a public dataset."""
        return f"custom_{self.name}"

    @property
    def expected(self) -> str:
        return f"files like {self.spec.files}"

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        return self.spec.splits

    @property
    def descriptions(self) -> str:
        return self.spec.descriptions

    def find_source(self, manual_dir: Path) -> Source | None:
        """The clip files of the folder, or its file or folder of arrays."""
        spec = self.spec
        if spec.format in ARRAY_FORMATS:
            path = inside(manual_dir, manual_dir / spec.files)
            if not path.exists():
                return None
            source = PysklSource if spec.format == "pyskl" else GcnArraySource
            return source(path, spec.skeleton, len(spec.classes))
        suffix = Path(spec.files).suffix
        if suffix not in SUFFIXES[spec.format]:
            raise DataError(
                f"files: expected a pattern that ends in {' or '.join(SUFFIXES[spec.format])}, "
                f"got {spec.files!r}",
                manual_dir / SPEC,
            )
        return FileSource(Archive((manual_dir,), suffix), CustomReader(spec))

    def origin(self, source: Source) -> str:
        """See `Dataset`; depends on the description too."""
        return f"{super().origin(source)}\n{self.spec}"

    def check(self, source: Source) -> None:
        """See `Dataset`; without protocols in the description, the arrays must define them."""
        self._sides_of_arrays([], source)

    def _sides_of_arrays(self, clip_ids: list[str], source: Source) -> dict[str, np.ndarray]:
        in_description = self.spec.train_subjects or self.spec.train_views
        if in_description or not isinstance(source, ArraySource):
            return {}
        return source.sides(clip_ids)

    def sides(self, columns: Columns, source: Source) -> dict[str, np.ndarray]:
        """Protocols by subject and by view from the description, and those of the arrays."""
        sides = self._sides_of_arrays(columns["clip_id"].tolist(), source)
        for protocol, key in (("xsub", "subject"), ("xview", "view")):
            train = getattr(self.spec, f"train_{key}s")
            if train:
                sides[protocol] = np.where(np.isin(columns[key], train), TRAIN, TEST)
        return sides
