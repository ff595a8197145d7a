"""`load_corpus`: the one door through which every dataset comes in."""

import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import builders
from data_pipelines.cleaning import clean
from data_pipelines.corpus import Corpus
from data_pipelines.demo.generate import generate_demo
from data_pipelines.errors import unknown
from dynapurls_jax.config import DATASETS
from dynapurls_jax.skeletons import KINECT_V1

_NTU_INSTRUCTIONS = (
    "NTU RGB+D 60 is not read by this version yet; its reader comes with the next release.\n"
    "To be ready for it: register at https://rose1.ntu.edu.sg/dataset/actionRecognition/, download "
    "the 3D skeletons nturgbd_skeletons_s001_to_s017.zip (5.8 GB, 56 880 files) and put the "
    "zip into {manual_dir}.\nUntil then: python -m dynapurls_jax.train --config=configs/demo.py"
)


def data_home() -> Path:
    """Where the prepared array_record files go: $DYNAPURLS_CACHE or ~/.cache/dynapurls_jax."""
    return Path(os.environ.get("DYNAPURLS_CACHE", "~/.cache/dynapurls_jax")).expanduser()


def find_manual_dir(name: str, manual_dir: str = "") -> Path:
    """Where the owner's archive is looked for.

    In this order: the configured folder, `$DYNAPURLS_DATA/<name>`, `../shared/data/<name>`, and
    `<cache>/manual/<name>`.
    """
    if manual_dir:
        return Path(manual_dir).expanduser()
    roots = [os.environ.get("DYNAPURLS_DATA", ""), "../shared/data"]
    for root in filter(None, roots):
        if (Path(root) / name).is_dir():
            return (Path(root) / name).resolve()
    return data_home() / "manual" / name


def load_corpus(name: str, manual_dir: str = "", seed: int = 0) -> Corpus:
    """Reads a dataset, building its array_record files on first use, and cleans it.

    Args:
      name: one of `DATASETS`.
      manual_dir: folder with the owner's archive; see `find_manual_dir`.
      seed: of the demo corpus; real data has none.

    Raises:
      ValueError: no such dataset.
      FileNotFoundError: the archive is not there; says what to download and where to put it.
      DataError: a file in it cannot be used.
    """
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    if name == "demo":
        return clean(generate_demo(seed))
    folder = find_manual_dir(name, manual_dir)
    if name == "ntu60":
        raise FileNotFoundError(_NTU_INSTRUCTIONS.format(manual_dir=folder))
    return clean(_read_prepared(name, folder, explicit=bool(manual_dir)))


def _prepared_builder(name: str, manual_dir: Path, explicit: bool) -> builders.SkeletonBuilder:
    """The builder, its array_record files made from the archive that is there now.

    Without an archive in the usual places, files that were prepared before serve; an archive that
    was named explicitly must exist.
    """

    def make():
        folder = str(data_home() / "tfds")
        return builders.BUILDERS[name](data_dir=folder, file_format="array_record")

    builder = make()
    source = builder.find_source(manual_dir)
    record = data_home() / "tfds" / f"{name}.source"
    stat = source.stat() if source else None
    origin = f"{source} {stat.st_size} {stat.st_mtime_ns}" if stat else ""
    if builder.is_prepared() and not explicit and not origin:
        return builder
    if source is None and (explicit or not builder.DOWNLOADS):
        raise FileNotFoundError(builder.missing(manual_dir))
    if builder.is_prepared() and record.exists() and record.read_text() == origin:
        return builder
    if builder.is_prepared():
        shutil.rmtree(builder.data_path)
        builder = make()
    manual_dir.mkdir(parents=True, exist_ok=True)
    config = tfds.download.DownloadConfig(manual_dir=str(manual_dir))
    builder.download_and_prepare(download_config=config)
    record.write_text(origin)
    return builder


def _read_prepared(name: str, manual_dir: Path, explicit: bool) -> Corpus:
    builder = _prepared_builder(name, manual_dir, explicit)
    examples = list(builder.as_data_source(split=builders.SPLIT))
    label_names = tuple(builder.info.features["label"].names)
    ids = [_text(example["clip_id"]) for example in examples]
    order = np.argsort(ids)
    columns = {
        key: np.array([examples[i][key] for i in order], np.int32)
        for key in ("label", "subject", "view")
    }
    return Corpus(
        name=name,
        skeleton=KINECT_V1,
        class_names=label_names,
        clips=tuple(np.asarray(examples[i]["clip"]) for i in order),
        labels=columns["label"],
        subjects=columns["subject"],
        views=columns["view"],
        clip_ids=tuple(ids[i] for i in order),
        notes=_side_notes(label_names, columns["label"]),
    )


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _side_notes(names: tuple[str, ...], labels: np.ndarray) -> dict[str, int]:
    """Counts clips whose class is relative to a side that each subject chose ("other hand")."""
    relative = [i for i, name in enumerate(names) if "other" in name.split()]
    return {
        "clips of a class named 'other' side, which side differs between subjects": int(
            np.isin(labels, relative).sum()
        )
    }
