"""The TFDS builder of a user's own data: everything that others write in code stands in a file."""

from pathlib import Path

import numpy as np

from data_pipelines.builders.base import Columns, SkeletonBuilder
from data_pipelines.corpus import TEST, TRAIN
from data_pipelines.errors import DataError
from data_pipelines.formats.gcn_arrays import GcnArraySource
from data_pipelines.formats.custom import SUFFIXES, OwnReader
from data_pipelines.formats.pyskl import PysklSource
from data_pipelines.dataset_info import KNOWN
from data_pipelines.custom_spec import ARRAY_FORMATS, SPEC, load_spec
from data_pipelines.protocols import published_splits
from data_pipelines.sources import Archive, FileSource, Source


class CustomDataset(SkeletonBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A folder of files and a `dataset.yaml` that describes them."""

    DROP_DUPLICATES = False
    TOTAL = 0
    HOMEPAGE = ""
    CITATION = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put your files and a {SPEC} into <manual_dir>."

    def __init__(self, manual_dir: Path, **options):
        """Reads the description.

        Args:
          manual_dir: the folder.
          options: see `SkeletonBuilder`.
        """
        self.spec = load_spec(manual_dir, KNOWN)
        self._arrays: PysklSource | GcnArraySource | None = None
        self.DATASET, self.name = self.spec.name, f"own_{self.spec.name}"
        self.SKELETON, self.CLASSES = self.spec.skeleton, self.spec.classes
        self.DESCRIPTION = f"Described by {manual_dir / SPEC}."
        super().__init__(**options)

    @property
    def expected(self) -> str:
        """See `SkeletonBuilder`."""
        return f"files like {self.spec.files}"

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        """Those of the description, or of the dataset that it is like."""
        return self.spec.splits or published_splits(self.spec.like)

    @property
    def descriptions(self) -> str:
        """Where the texts are: a file beside the description, or a dataset that has some."""
        if self.spec.descriptions:
            return str(self.spec.folder / self.spec.descriptions)
        return self.spec.like or self.spec.name

    def find_source(self, manual_dir: Path) -> Source | None:
        """The files of the folder, or the one file of arrays."""
        spec = self.spec
        if spec.format in ARRAY_FORMATS:
            if not (manual_dir / spec.files).exists():
                return None
            if self._arrays is None:
                make = PysklSource if spec.format == "pyskl" else GcnArraySource
                self._arrays = make(manual_dir / spec.files, spec.skeleton, len(spec.classes))
            return self._arrays
        suffix = Path(spec.files).suffix
        if suffix not in SUFFIXES[spec.format]:
            raise DataError(
                f"files: expected a pattern that ends in {' or '.join(SUFFIXES[spec.format])}, "
                f"got {spec.files!r}",
                manual_dir / SPEC,
            )
        return FileSource(Archive((manual_dir,), suffix), OwnReader(spec))

    def _source(self, dl_manager) -> Source:
        source = super()._source(dl_manager)
        if self._arrays is not None and not self._by_subject_or_view:
            self._arrays.sides([])  # a file that has none is refused before it is read
        return source

    @property
    def _by_subject_or_view(self) -> bool:
        return bool(self.spec.train_subjects or self.spec.train_views)

    def origin(self, source: Source) -> str:
        """Changes with the description too."""
        return f"{super().origin(source)}\n{self.spec}"

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """By subject and by view, as the description says, or as the file of arrays says."""
        spec = self.spec
        if self._arrays is not None and not self._by_subject_or_view:
            return self._arrays.sides(columns["clip_id"].tolist())
        sides = {}
        for protocol, key in (("xsub", "subject"), ("xview", "view")):
            chosen = getattr(spec, f"train_{key}s")
            if chosen:
                sides[protocol] = np.where(np.isin(columns[key], chosen), TRAIN, TEST)
        return sides
