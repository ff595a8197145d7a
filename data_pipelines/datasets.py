"""Opens a dataset by name; the first use reads the owner's archive."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from data_pipelines import cleaning
from data_pipelines.atomic import flush
from data_pipelines.builders.base import Dataset
from data_pipelines.builders.registry import DEMO, dataset_of, public_dataset
from data_pipelines.builders.tfds_builder import (
    SPLIT,
    ClipBuilder,
    prepared_folder,
    prepared_from,
    read_index,
)
from data_pipelines.corpus import Corpus
from data_pipelines.demo.generate import generate_demo
from data_pipelines.formats.feature_folder import Features, read_features
from data_pipelines.formats.raw import RawClip, total
from data_pipelines.locks import one_at_a_time
from data_pipelines.logs import log
from data_pipelines.paths import data_home, find_manual_dir
from data_pipelines.settings import DataSettings
from data_pipelines.stored import DamagedError


def load_corpus(settings: DataSettings | str) -> Corpus:
    """Opens a dataset; the first use makes its array_record files.

    Clips of real datasets stay on disk and are read on access. The settings of the clips' shape
    are not used here; see `prepared.prepare`.

    Args:
      settings: of the data; or a dataset's name, for the defaults.

    Raises:
      FileNotFoundError: the archive is missing; the message explains how to get it.
      DataError: files of the archive cannot be used; all are listed.
      FullDiskError: there is no room.
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
    folder, source = prepared_folder(dataset, home), dataset.find_source(manual_dir)
    if source is None and not explicit and prepared_from(folder)[0]:
        return ClipBuilder(dataset, home)
    if source is None and (explicit or not dataset.URL):
        raise FileNotFoundError(dataset.missing(manual_dir))
    origin = dataset.origin(source) if source else dataset.URL
    with one_at_a_time(home / f"{dataset.store_name}.lock"):
        prepared, skipped = prepared_from(folder)
        if prepared != origin or (skipped and not skip_bad):
            manual_dir.mkdir(parents=True, exist_ok=True)
            _prepare_and_replace(dataset, manual_dir, folder, skip_bad)
    return ClipBuilder(dataset, home)  # a builder reads the metadata when it is created


def _prepare_and_replace(dataset: Dataset, manual_dir: Path, folder: Path, skip_bad: bool) -> None:
    """Prepares a dataset in a temporary folder, then replaces the prepared files."""
    scratch = data_home() / "tfds" / f"making-{dataset.store_name}"
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed process
    try:
        ClipBuilder(dataset, scratch, skip_bad).prepare(manual_dir)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepared_folder(dataset, scratch).replace(folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    log.info(f"prepared {dataset.store_name} in {folder}")


class _RecordClips(Sequence):
    """Clips in array_record files, read and verified on access."""

    def __init__(self, builder: ClipBuilder, records: np.ndarray, hashes: np.ndarray):
        self._builder, self._records, self._hashes = builder, records, hashes

    @cached_property
    def _source(self):
        return self._builder.as_data_source(split=SPLIT)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index):
        record, expected = int(self._records[index]), self._hashes[index]
        try:
            clip = np.asarray(self._source[record]["clip"])
            if cleaning.content_hash(clip) != expected:
                raise ValueError("the values are others")
        except Exception as error:  # array_record and TFDS raise many
            folder = self._builder.data_path
            reason = f"clip {index} is not what was written ({error}); delete it to make it again"
            raise DamagedError(reason, folder) from error
        return clip


def _open_prepared(builder: ClipBuilder) -> Corpus:
    columns, sides, notes, _ = read_index(Path(builder.data_path))
    dataset, labels = builder.dataset, columns["label"].astype(np.int32)
    return Corpus(
        name=dataset.name,
        descriptions=dataset.descriptions,
        skeleton=dataset.SKELETON,
        class_names=dataset.CLASSES,
        clips=_RecordClips(builder, columns["record"], columns["hash"]),
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
