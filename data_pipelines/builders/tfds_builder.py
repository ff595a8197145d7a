"""The TFDS builder of all datasets: array_record files without TensorFlow, and an index.

The index contains labels, protocols and counts, which are read without the clips.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from data_pipelines import cleaning, stored
from data_pipelines.atomic import full_disk_named
from data_pipelines.builders.base import Columns, Dataset
from data_pipelines.errors import DataError
from data_pipelines.formats.raw import total
from data_pipelines.ingest import SKIPPED, ingest
from data_pipelines.logs import log
from data_pipelines.paths import data_home
from data_pipelines.sources import Source

# TFDS warns of unfinished folders, such as the one being prepared.
logging.get_absl_logger().addFilter(lambda record: "Variant folder" not in str(record.msg))

SPLIT = "clips"
INDEX, DIGESTS = "index.npz", "files.sha256"


class ClipBuilder(FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Cleaned clips of one dataset."""

    VERSION = tfds.core.Version("2.2.0")

    def __init__(self, dataset: Dataset, data_dir: Path, skip_bad: bool = False):
        """Opens the prepared files, if there are any.

        Args:
          dataset: to be prepared.
          data_dir: folder of all prepared datasets.
          skip_bad: skip unreadable files in `prepare` instead of raising.
        """
        self.dataset, self.name = dataset, dataset.store_name
        self._downloads = data_dir / "downloads"
        self._skip_bad = skip_bad
        super().__init__(file_format="array_record", data_dir=str(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (None, None, self.dataset.SKELETON.num_joints, 3)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.dataset.DESCRIPTION,
            homepage=self.dataset.HOMEPAGE,
            citation=self.dataset.CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "clip": tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="bytes"),
                    "label": tfds.features.ClassLabel(names=list(self.dataset.CLASSES)),
                    "subject": np.int32,
                    "view": np.int32,
                    "setup": np.int32,
                    "clip_id": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        """Writes the examples in order into one file, and the index.

        `GeneratorBasedBuilder` of TFDS keeps up to 1 GB of examples in memory, and needs TensorFlow
        for more.
        """
        manual_dir = Path(download_config.manual_dir)
        source = self.dataset.find_source(manual_dir)
        origin = self.dataset.origin(source) if source else self.dataset.URL
        source = source or self.dataset.download(self._downloads, manual_dir)
        self.dataset.check(source)
        template = tfds.core.ShardedFileTemplate(
            dataset_name=self.name,
            data_dir=self.data_path,
            split=SPLIT,
            filetype_suffix="array_record",
        )
        file = template.sharded_filepath(shard_index=0, num_shards=1)
        writer = ArrayRecordWriter(str(file), "group_size:1")
        features, size = self.info.features, 0
        records: list[dict] = []
        notes: dict[str, int] = {}
        for example, extra in self._examples(source, notes):
            serialized = features.serialize_example(example)
            writer.write(serialized)
            size += len(serialized)
            records.append({key: example[key] for key in example if key != "clip"} | extra)
        writer.close()
        self._check(records, notes, source)
        split = tfds.core.SplitInfo(
            name=SPLIT, shard_lengths=[len(records)], num_bytes=size, filename_template=template
        )
        self.info.set_splits(tfds.core.SplitDict([split]))
        self._write_index(records, notes, source, origin)

    @property
    def _parts(self) -> Path:
        return data_home() / "parts" / self.name

    def _examples(self, source: Source, notes: dict[str, int]) -> Iterator[tuple[dict, dict]]:
        """Examples of the usable clips, each with its other index columns; accumulates `notes`."""
        read = 0
        for raw in ingest(source, self._parts, f"reading {self.name}", self._skip_bad):
            read += 1
            notes |= total([notes, raw.notes])
            if cleaning.is_useless(raw):
                continue
            example = {
                "clip": raw.joints,
                "label": raw.label,
                "subject": raw.subject,
                "view": raw.view,
                "setup": raw.setup,
                "clip_id": raw.clip_id,
            }
            extra = {
                "frames": raw.joints.shape[1],
                "persons": len(raw.joints),
                "hash": cleaning.content_hash(raw.joints),
            }
            yield example, extra
        published = self.dataset.TOTAL
        if read < published:
            notes[f"missing clips, of the published {published}"] = published - read

    def _check(self, records: list[dict], notes: dict[str, int], source: Source) -> None:
        name = self.dataset.name
        if not records:
            raise DataError(f"{name} has no usable clip: {notes}", source.place)
        counts = Counter(record["clip_id"] for record in records)
        repeated = [clip_id for clip_id, count in counts.items() if count > 1]
        if repeated:
            raise DataError(
                f"{len(repeated)} clips occur more than once, such as {repeated[0]}; expected each "
                "in one place",
                source.place,
            )

    def _write_index(
        self, records: list[dict], notes: dict[str, int], source: Source, origin: str
    ) -> None:
        """Writes columns and protocols of the kept clips, sorted by clip id."""
        columns = {key: np.array([record[key] for record in records]) for key in records[0]}
        copies = cleaning.duplicates(columns["hash"])
        drop = self.dataset.DROP_DUPLICATES
        kept = np.flatnonzero(~copies if drop else np.ones(len(copies), bool))
        kept = kept[np.argsort(columns["clip_id"][kept], kind="stable")]
        columns = {key: column[kept] for key, column in columns.items()}
        if copies.any():
            notes = notes | {cleaning.COPY if drop else cleaning.COPY_KEPT: int(copies.sum())}
        for protocol, side in self.dataset.sides(columns, source).items():
            columns[f"side_{protocol}"] = side.astype(np.int8)
        about = {"notes": notes, "origin": origin}
        stored.write_arrays(Path(self.data_path) / INDEX, columns | {"record": kept}, about)

    def _log_download_bytes(self) -> None:
        """Prints nothing; TFDS would announce a download, even without one."""

    def _log_download_done(self) -> None:
        """Prints nothing; TFDS would print the path of a temporary folder."""

    def prepare(self, manual_dir: Path) -> None:
        """Makes the prepared files, then deletes their part files.

        Args:
          manual_dir: folder of the raw files.

        Raises:
          FileNotFoundError: the raw files are missing.
          DataError: the raw files cannot be used.
          FullDiskError: there is no room.
        """
        tfds.disable_progress_bar()  # `ingest` shows its own
        config = tfds.download.DownloadConfig(manual_dir=str(manual_dir))

        def read() -> int:
            """Bytes of the part files, which the prepared files have again."""
            return sum(part.stat().st_size for part in self._parts.glob("*"))

        with full_disk_named(Path(self.data_path), read):
            self.download_and_prepare(download_config=config)
        stored.seal(Path(self.data_path), Path(self.data_path) / DIGESTS)
        shutil.rmtree(self._parts, ignore_errors=True)


def prepared_folder(dataset: Dataset, data_dir: Path) -> Path:
    """Folder of a dataset's prepared files."""
    return data_dir / dataset.store_name / str(ClipBuilder.VERSION)


def prepared_from(folder: Path) -> tuple[str, bool]:
    """Origin of the prepared files ("" if there are none), and whether files were skipped.

    Damaged files count as none. Clips are not read: each is verified when it is used.
    """
    if not (folder / DIGESTS).exists():
        return "", False
    if fault := stored.fault(folder, folder / DIGESTS, unread="array_record"):
        log.warning(f"prepared clips in {folder} are damaged: {fault}")
        return "", False
    _, _, notes, origin = read_index(folder)
    return origin, SKIPPED in notes


def read_index(folder: Path) -> tuple[Columns, dict[str, np.ndarray], dict[str, int], str]:
    """Reads the index of prepared files.

    Returns:
      Columns (also `record`, `frames`, `persons` and `hash`, each `[N]`), sides, notes, origin.

    Raises:
      FileNotFoundError: nothing is prepared.
      DamagedError: it is not what was written.
    """
    arrays, about = stored.read_arrays(folder / INDEX, f"delete {folder} to make it again")
    columns = {key: array for key, array in arrays.items() if not key.startswith("side_")}
    sides = {key[5:]: array for key, array in arrays.items() if key.startswith("side_")}
    return columns, sides, about["notes"], about["origin"]
