"""Opens a dataset by name; the first use reads the owner's archive."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipelines import cleaning
from data_pipelines.builders.base import Dataset
from data_pipelines.builders.registry import DEMO, dataset_of, public_dataset
from data_pipelines.builders.tfds_builder import SPLIT, ClipBuilder
from data_pipelines.corpus import Corpus
from data_pipelines.demo.generate import generate_demo
from data_pipelines.formats.feature_folder import Features, read_features
from data_pipelines.formats.raw import RawClip, total
from data_pipelines.locks import one_at_a_time
from data_pipelines.logs import log
from data_pipelines.paths import data_home, find_manual_dir
from data_pipelines.settings import DataSettings


def load_corpus(settings: DataSettings | str) -> Corpus:
    """Opens a dataset; the first use makes its array_record files.

    Clips of real datasets stay on disk and are read on access. The settings of the clips' shape
    are not used here; see `prepared.prepare`.

    Args:
      settings: of the data; or a dataset's name, for the defaults.

    Raises:
      FileNotFoundError: the archive is missing; the message explains how to get it.
      DataError: files of the archive cannot be used; all are listed.
    """
    if isinstance(settings, str):
        settings = DataSettings(settings)
    if settings.name == DEMO:
        return clean_corpus(generate_demo(settings.seed))
    folder = find_manual_dir(settings.name, settings.manual_dir)
    dataset = dataset_of(settings.name, folder)
    explicit = bool(settings.manual_dir)
    return _open_prepared(_prepared_builder(dataset, folder, explicit, settings.skip_bad))


def load_features(settings: DataSettings) -> Features:
    """Reads backbone features of a public dataset from the folder `settings.features`.

    Raises:
      ValueError: the dataset is not a public one.
      FileNotFoundError, DataError: see `read_features`.
    """
    return read_features(Path(settings.features), public_dataset(settings.name))


def clean_corpus(corpus: Corpus) -> Corpus:
    """Cleans a corpus in memory in the same way as `ingest` cleans the clips of a source."""
    raws = [
        cleaning.clean(RawClip(clip_id, joints, int(label)))
        for clip_id, joints, label in zip(corpus.clip_ids, corpus.clips, corpus.labels, strict=True)
    ]
    cleaned = replace(
        corpus,
        clips=tuple(raw.joints for raw in raws),
        hashes=np.array([cleaning.content_hash(raw.joints) for raw in raws]),
    )
    copies = cleaning.duplicates(cleaned.hashes)
    useless = np.array([cleaning.is_useless(raw) for raw in raws])
    notes = corpus.notes | total(raw.notes for raw in raws)
    if (copies & ~useless).any():
        notes[cleaning.COPY] = int((copies & ~useless).sum())
    return cleaned.select(np.flatnonzero(~(copies | useless)), notes=notes)


def _prepared_builder(
    dataset: Dataset, manual_dir: Path, explicit: bool, skip_bad: bool
) -> ClipBuilder:
    """The builder with array_record files of the current archive.

    If the default places have no archive, files prepared earlier are used; an explicit `manual_dir`
    must have one.
    """
    home = data_home() / "tfds"
    builder = ClipBuilder(dataset, home)
    source = dataset.find_source(manual_dir)
    if source is None and not explicit and builder.prepared_from()[0]:
        return builder
    if source is None and (explicit or not dataset.URL):
        raise FileNotFoundError(dataset.missing(manual_dir))
    origin = dataset.origin(source) if source else dataset.URL
    with one_at_a_time(home / f"{builder.name}.lock"):
        prepared, skipped = builder.prepared_from()
        if prepared != origin or (skipped and not skip_bad):
            manual_dir.mkdir(parents=True, exist_ok=True)
            _prepare_and_replace(dataset, manual_dir, home, skip_bad)
    return ClipBuilder(dataset, home)  # a builder reads the metadata when it is created


def _prepare_and_replace(dataset: Dataset, manual_dir: Path, home: Path, skip_bad: bool) -> None:
    """Prepares a dataset in a temporary folder, then replaces the prepared files."""
    with tempfile.TemporaryDirectory(dir=home, prefix="making-") as scratch:
        builder = ClipBuilder(dataset, Path(scratch), skip_bad)
        builder.prepare(manual_dir)
        made = Path(builder.data_path)
        target = home / made.relative_to(scratch)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.replace(target)
    log.info(f"prepared {builder.name} in {target}")


class _RecordClips(Sequence):
    """Clips in array_record files, read on access."""

    def __init__(self, builder: ClipBuilder, records: np.ndarray):
        self.source, self.records = builder.as_data_source(split=SPLIT), records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index):
        return np.asarray(self.source[int(self.records[index])]["clip"])


def _open_prepared(builder: ClipBuilder) -> Corpus:
    columns, sides, notes, _ = builder.read_index()
    dataset, labels = builder.dataset, columns["label"].astype(np.int32)
    return Corpus(
        name=dataset.name,
        descriptions=dataset.descriptions,
        skeleton=dataset.SKELETON,
        class_names=dataset.CLASSES,
        clips=_RecordClips(builder, columns["record"]),
        labels=labels,
        subjects=columns["subject"],
        views=columns["view"],
        setups=columns["setup"],
        clip_ids=tuple(columns["clip_id"].tolist()),
        frames=columns["frames"],
        persons=columns["persons"],
        hashes=columns["hash"],
        sides=sides,
        splits=dataset.splits,
        notes=notes | _side_notes(dataset.CLASSES, labels),
    )


def _side_notes(names: tuple[str, ...], labels: np.ndarray) -> dict[str, int]:
    """Counts clips whose class depends on a side that each subject chose ("other hand")."""
    relative = [label for label, name in enumerate(names) if "other" in name.split()]
    count = int(np.isin(labels, relative).sum())
    note = "clips of classes named by the 'other' side, which differs between subjects"
    return {note: count} if count else {}
