"""`load_corpus`: the one door through which every dataset comes in."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipelines import cleaning
from data_pipelines.builders.base import SPLIT, SkeletonBuilder
from data_pipelines.builders.registry import make_builder
from data_pipelines.corpus import Corpus
from data_pipelines.demo.generate import generate_demo
from data_pipelines.errors import unknown
from data_pipelines.formats.raw import RawClip, total
from data_pipelines.locks import one_at_a_time
from data_pipelines.paths import data_home, find_manual_dir
from data_pipelines.protocols import published_splits
from dynapurls_jax.config import DATASETS


def load_corpus(name: str, manual_dir: str = "", seed: int = 0, skip_bad: bool = False) -> Corpus:
    """Opens a dataset, building its array_record files on first use.

    Clips of real datasets stay on disk and are read when they are asked for.

    Args:
      name: one of `DATASETS`.
      manual_dir: folder with the owner's archive; see `find_manual_dir`.
      seed: of the demo corpus; real data has none.
      skip_bad: leave out files that cannot be read instead of failing.

    Raises:
      ValueError: no such dataset.
      FileNotFoundError: the archive is not there; says what to download and where to put it.
      DataError: files in it cannot be used; all are listed.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    if name == "demo":
        return clean_corpus(generate_demo(seed))
    folder = find_manual_dir(name, manual_dir)
    builder = _prepared_builder(name, folder, bool(manual_dir), skip_bad)
    return _open_prepared(builder)


def clean_corpus(corpus: Corpus) -> Corpus:
    """Cleans a corpus that is in memory, as the builders clean what they read."""
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
    name: str, manual_dir: Path, explicit: bool, skip_bad: bool
) -> SkeletonBuilder:
    """The builder, its array_record files made from the archive that is there now.

    Without an archive in the usual places, files that were prepared before serve; an archive that
    was named explicitly must exist.
    """
    home = data_home() / "tfds"
    builder = make_builder(name, manual_dir, data_dir=str(home), skip_bad=skip_bad)
    source = builder.find_source(manual_dir)
    if source is None and not explicit and builder.prepared_from()[0]:
        return builder
    if source is None and (explicit or not builder.DOWNLOADS):
        raise FileNotFoundError(builder.missing(manual_dir))
    origin = builder.origin(source) if source else builder.URL
    with one_at_a_time(home / f"{builder.name}.lock"):
        prepared, skipped = builder.prepared_from()
        if prepared != origin or (skipped and not skip_bad):
            manual_dir.mkdir(parents=True, exist_ok=True)
            _make_aside(name, manual_dir, home, origin, skip_bad)
    # Anew, since a builder learns only at its start what is there.
    return make_builder(name, manual_dir, data_dir=str(home), skip_bad=skip_bad)


def _make_aside(name: str, manual_dir: Path, home: Path, origin: str, skip_bad: bool) -> None:
    """Prepares a dataset, and only then puts it in the place of what was there."""
    with tempfile.TemporaryDirectory(dir=home, prefix="making-") as scratch:
        builder = make_builder(name, manual_dir, data_dir=scratch, skip_bad=skip_bad)
        builder.prepare(manual_dir, origin)
        made = Path(builder.data_path)
        place = home / made.relative_to(scratch)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        made.replace(place)
    print(f"prepared {name} in {place}", flush=True)


class _RecordClips(Sequence):
    """Clips in array_record files, read when they are asked for."""

    def __init__(self, builder: SkeletonBuilder, rows: np.ndarray):
        self.source, self.rows = builder.as_data_source(split=SPLIT), rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        return np.asarray(self.source[int(self.rows[index])]["clip"])


def _open_prepared(builder: SkeletonBuilder) -> Corpus:
    columns, sides, notes, _ = builder.read_index()
    labels = columns["label"].astype(np.int32)
    return Corpus(
        name=builder.DATASET,
        descriptions=builder.descriptions,
        skeleton=builder.SKELETON,
        class_names=builder.CLASSES,
        clips=_RecordClips(builder, columns["row"]),
        labels=labels,
        subjects=columns["subject"],
        views=columns["view"],
        setups=columns["setup"],
        clip_ids=tuple(columns["clip_id"].tolist()),
        frames=columns["frames"],
        persons=columns["persons"],
        hashes=columns["hash"],
        sides=sides,
        splits=builder.splits or published_splits(builder.DATASET),
        notes=notes | _side_notes(builder.CLASSES, labels),
    )


def _side_notes(names: tuple[str, ...], labels: np.ndarray) -> dict[str, int]:
    """Counts clips whose class is relative to a side that each subject chose ("other hand")."""
    relative = [i for i, name in enumerate(names) if "other" in name.split()]
    count = int(np.isin(labels, relative).sum())
    note = "clips of a class named 'other' side, which side differs between subjects"
    return {note: count} if count else {}
