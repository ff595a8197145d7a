"""What the TFDS builders of all datasets share: array_record, no TensorFlow, an index beside it."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter

from data_pipelines import cleaning
from data_pipelines.errors import DataError
from data_pipelines.formats.raw import total
from data_pipelines.ingest import SKIPPED, ingest
from data_pipelines.paths import data_home
from data_pipelines.sources import Source
from data_pipelines.skeletons import KINECT_V1, Skeleton

# It warns of every folder that it has begun and not finished, which is what preparing is.
logging.get_absl_logger().addFilter(lambda record: "Variant folder" not in str(record.msg))

SPLIT = "clips"
INDEX = "index.npz"
Columns = dict[str, np.ndarray]


class SkeletonBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Cleaned clips of one dataset; subclasses name the source, the classes and the sides.

    Beside the array_record files lies an index with everything but the clips, so that labels,
    protocols and counts are known without reading them.
    """

    VERSION = tfds.core.Version("2.0.0")
    DATASET: str  # its name in configurations
    SKELETON: Skeleton = KINECT_V1
    CLASSES: tuple[str, ...]
    CITATION: str
    HOMEPAGE: str
    DESCRIPTION: str
    DOWNLOADS = False  # whether it can fetch its archive itself, from URL
    URL = ""
    TOTAL: int  # clips of the whole dataset, to say when some are not there; 0: not known
    # Published protocols that count clips keep them all.
    DROP_DUPLICATES = True

    def __init__(self, *, skip_bad: bool = False, **options):
        """As in TFDS.

        Args:
          skip_bad: leave out files that cannot be read instead of failing.
        """
        self._skip_bad = skip_bad
        self._rows: list[dict] = []
        self._notes: dict[str, int] = {}
        self._asked_for: Path | None = None
        super().__init__(file_format="array_record", **options)

    @property
    def expected(self) -> str:
        """What belongs into the manual_dir, for the message that it is not there."""
        raise NotImplementedError

    def find_source(self, manual_dir: Path) -> Source | None:
        """The source in `manual_dir`; None if it is not there."""
        raise NotImplementedError

    def origin(self, source: Source) -> str:
        """Changes when prepared files have to be made again."""
        return f"{source.stamp()}\n{source.identity()}"

    def sides(self, columns: Columns) -> dict[str, np.ndarray]:
        """Protocol name to `[N]`, each `TRAIN`, `TEST` or `NEITHER`; the usual protocol first.

        Args:
          columns: `label`, `subject`, `view`, `setup`, `clip_id`, each `[N]`.
        """
        raise NotImplementedError

    @property
    def splits(self) -> dict[str, tuple[int, ...]]:
        """Name of a published split to its unseen classes."""
        return {}

    @property
    def descriptions(self) -> str:
        """Name of the dataset whose shipped descriptions fit, or a file; empty: the dataset's."""
        return ""

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (None, None, self.SKELETON.num_joints, 3)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "clip": tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="bytes"),
                    "label": tfds.features.ClassLabel(names=list(self.CLASSES)),
                    "subject": np.int32,
                    "view": np.int32,
                    "setup": np.int32,
                    "clip_id": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

    def missing(self, manual_dir: Path) -> str:
        """What to say when there is no source."""
        return (
            f"{self.name}: expected {self.expected} in {manual_dir}, did not find all of it.\n"
            + self.MANUAL_DOWNLOAD_INSTRUCTIONS.replace("<manual_dir>", str(manual_dir))
            + "\nOr name another folder with --config.data.manual_dir=..."
        )

    def _manual_dir_of(self, dl_manager) -> Path:
        """Where the owner's archive may be; TFDS's own property gives no folder that is empty."""
        return self._asked_for or Path(dl_manager.manual_dir)

    def _source(self, dl_manager) -> Source:
        manual_dir = self._manual_dir_of(dl_manager)
        source = self.find_source(manual_dir)
        if source is None:
            raise FileNotFoundError(self.missing(manual_dir))
        return source

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        """Writes examples as they come, all in one file.

        TFDS's own way keeps up to 1 GB of them in memory, and asks for TensorFlow beyond that.
        """
        manual_dir = download_config.manual_dir
        self._asked_for = Path(manual_dir) if manual_dir else None
        template = tfds.core.ShardedFileTemplate(
            dataset_name=self.name,
            data_dir=self.data_path,
            split=SPLIT,
            filetype_suffix="array_record",
        )
        file = template.sharded_filepath(shard_index=0, num_shards=1)
        writer = ArrayRecordWriter(str(file), "group_size:1")
        features, count, size = self.info.features, 0, 0
        for _, example in self._split_generators(dl_manager)[SPLIT]:
            record = features.serialize_example(example)
            writer.write(record)
            count, size = count + 1, size + len(record)
        writer.close()
        split = tfds.core.SplitInfo(
            name=SPLIT, shard_lengths=[count], num_bytes=size, filename_template=template
        )
        self.info.set_splits(tfds.core.SplitDict([split]))

    def _split_generators(self, dl_manager):
        return {SPLIT: self._generate_examples(self._source(dl_manager))}

    @property
    def _parts(self) -> Path:
        return data_home() / "parts" / self.name

    def _generate_examples(self, source: Source):
        self._rows, self._notes = [], {}
        read = 0
        for raw in ingest(source, self._parts, f"reading {self.name}", self._skip_bad):
            read += 1
            self._notes = total([self._notes, raw.notes])
            if cleaning.is_useless(raw):
                continue
            example = {
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
            self._rows.append(example | extra)
            yield len(self._rows) - 1, example | {"clip": raw.joints}
        self._check_rows(source)
        if read < self.TOTAL:
            note = f"clips of the published {self.TOTAL} that are not here"
            self._notes[note] = self.TOTAL - read

    def _check_rows(self, source: Source) -> None:
        if not self._rows:
            raise DataError(f"no clip of {self.DATASET} can be used: {self._notes}", source.stamp())
        twice = [name for name, n in Counter(row["clip_id"] for row in self._rows).items() if n > 1]
        if twice:
            raise DataError(
                f"{len(twice)} clips are there more than once, such as {twice[0]}; expected each "
                "in one place",
                source.stamp(),
            )

    def _log_download_bytes(self) -> None:
        """TFDS would say that it downloads, which it mostly does not."""

    def _log_download_done(self) -> None:
        """Where it says that things are is not yet where they go."""

    def prepare(self, manual_dir: Path, origin: str) -> None:
        """Makes the array_record files and the index; the parts that they came from go.

        Args:
          manual_dir: where the source is.
          origin: what it was when it was read; see `origin`.
        """
        tfds.disable_progress_bar()  # the reading shows its own
        config = tfds.download.DownloadConfig(manual_dir=str(manual_dir))
        self.download_and_prepare(download_config=config)
        self._write_index(origin)
        shutil.rmtree(self._parts, ignore_errors=True)

    def _write_index(self, origin: str) -> None:
        columns = {key: np.array([row[key] for row in self._rows]) for key in self._rows[0]}
        copies = cleaning.duplicates(columns["hash"])
        keep = np.flatnonzero(~copies if self.DROP_DUPLICATES else np.ones(len(copies), bool))
        keep = keep[np.argsort(columns["clip_id"][keep], kind="stable")]
        columns = {key: column[keep] for key, column in columns.items()}
        note = cleaning.COPY if self.DROP_DUPLICATES else cleaning.COPY_KEPT
        notes = self._notes | ({note: int(copies.sum())} if copies.any() else {})
        for name, side in self.sides(columns).items():
            columns[f"side_{name}"] = side.astype(np.int8)
        text = json.dumps({"notes": notes, "origin": origin}).encode()
        with (Path(self.data_path) / INDEX).open("wb") as file:
            text_array = np.frombuffer(text, np.uint8)
            np.savez(file, **columns, row=keep, text=text_array)  # type: ignore[arg-type]

    def prepared_from(self) -> tuple[str, bool]:
        """The origin of what is prepared, and whether bad files were skipped; "" for nothing."""
        if not (Path(self.data_path) / INDEX).exists():
            return "", False
        _, _, notes, origin = self.read_index()
        return origin, SKIPPED in notes

    def read_index(self) -> tuple[Columns, dict[str, np.ndarray], dict[str, int], str]:
        """Columns (with `row`, `frames`, `persons` and `hash`), sides, notes, and the origin.

        Raises:
          FileNotFoundError: it was not prepared by `prepare`.
        """
        with np.load(Path(self.data_path) / INDEX) as arrays:
            columns = {key: arrays[key] for key in arrays if not key.startswith("side_")}
            sides = {key[5:]: arrays[key] for key in arrays if key.startswith("side_")}
        text = json.loads(columns.pop("text").tobytes())
        return columns, sides, text["notes"], text["origin"]
