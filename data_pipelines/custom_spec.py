"""The description of a custom dataset: `dataset.yaml` in the folder of its files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.builders.registry import public_dataset
from data_pipelines.errors import DataError, check_choice
from data_pipelines.skeletons import SKELETONS, Skeleton, skeleton_of_names
from data_pipelines.untrusted import inside, load_yaml

SPEC = "dataset.yaml"
FILE_FORMATS = ("text", "npz", "skeleton")
ARRAY_FORMATS = ("pyskl", "gcn_arrays")
# Names in a workdir, which has a folder for each split.
RESERVED = {"config.json", "records.jsonl", "report", "training.lock", "xla-cache"}
KEYS = {
    "name", "like", "format", "files", "skeleton", "classes", "first_class", "metres",
    "train_subjects", "train_views", "splits", "descriptions",
}  # fmt: skip


@dataclass(frozen=True)
class CustomSpec:
    """The content of `dataset.yaml`, checked; docs/data.md describes each key.

    Attributes:
      folder: folder of the file.
      files: pattern of file names (file formats), or name of the file or folder (array formats).
      metres: length of one unit of the files, in metres.
      splits: unseen class ids by name of the split; default: those of the dataset in `like`.
      descriptions: file with descriptions, or dataset whose shipped descriptions are used.
    """

    folder: Path
    name: str
    format: str
    files: str
    skeleton: Skeleton
    classes: tuple[str, ...]
    first_class: int
    metres: float
    train_subjects: tuple[int, ...]
    train_views: tuple[int, ...]
    splits: dict[str, tuple[int, ...]]
    descriptions: str


def load_spec(folder: Path) -> CustomSpec:
    """Reads and checks the description in a folder.

    Raises:
      FileNotFoundError: there is none.
      DataError: it is not YAML, or a key is missing, unknown or wrong; the message names the key.
    """
    file = folder / SPEC
    if not folder.is_dir():
        raise FileNotFoundError(f"data.manual_dir: expected a folder of your data, got {folder}")
    if not file.is_file():
        raise FileNotFoundError(
            f"expected a description of your dataset in {file}, or clip archives, found neither. "
            "docs/data.md shows one; name its folder with --config.data.manual_dir=..."
        )
    record = load_yaml(inside(folder, file))
    if not isinstance(record, dict):
        raise DataError("expected keys and values", file)
    try:
        return _checked(folder, record)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(str(error), file) from error


def _checked(folder: Path, record: dict) -> CustomSpec:
    for key in record:
        check_choice("key", key, sorted(KEYS))
    like = public_dataset(record["like"]) if record.get("like") else None
    form = _required(record, "format")
    check_choice("format", form, FILE_FORMATS + ARRAY_FORMATS)
    name = str(_required(record, "name"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"name: expected lower-case letters, digits and _, got {name!r}")
    classes = _classes(record.get("classes") or (like.CLASSES if like else []))
    files = str(_required(record, "files"))
    if form in FILE_FORMATS and "{class}" not in files:
        raise ValueError(f"files: expected a pattern with {{class}}, got {files!r}")
    if form in FILE_FORMATS and not (record.get("train_subjects") or record.get("train_views")):
        raise ValueError(
            "expected train_subjects or train_views: without them there are no test clips"
        )
    metres = float(record.get("metres", 1))
    if not 0 < metres < 1e6:
        raise ValueError(f"metres: expected the length of one unit in metres, got {metres}")
    splits = _splits(record.get("splits") or {}, classes)
    descriptions = like.descriptions if like else name
    if record.get("descriptions"):
        descriptions = str(inside(folder, folder / str(record["descriptions"])))
    return CustomSpec(
        folder=folder,
        name=name,
        format=form,
        files=files,
        skeleton=_skeleton(record.get("skeleton"), like.SKELETON if like else None),
        classes=classes,
        first_class=int(record.get("first_class", 0)),
        metres=metres,
        train_subjects=_numbers(record, "train_subjects"),
        train_views=_numbers(record, "train_views"),
        splits=splits or (like.splits if like else {}),
        descriptions=descriptions,
    )


def _required(record: dict, key: str) -> Any:
    if record.get(key) in (None, ""):
        raise ValueError(f"expected a key {key!r}, got {', '.join(map(str, record))}")
    return record[key]


def _classes(names: Any) -> tuple[str, ...]:
    classes = tuple(map(str, names)) if isinstance(names, list | tuple) else ()
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes: expected 2 or more different names, got {names!r}")
    return classes


def _numbers(record: dict, key: str) -> tuple[int, ...]:
    values = record.get(key) or []
    if not isinstance(values, list) or not all(str(value).isdecimal() for value in values):
        raise ValueError(f"{key}: expected a list of whole numbers, got {values!r}")
    if any(len(value) > 9 for value in values):
        raise ValueError(f"{key}: expected numbers below 10^9, got {max(values, key=len)}")
    return tuple(map(int, values))


def _splits(record: Any, classes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    splits = {}
    if not isinstance(record, dict):
        raise ValueError(f"splits: expected names, each with unseen classes, got {record!r}")
    for name, unseen in record.items():
        if not isinstance(unseen, list) or not unseen:
            raise ValueError(f"splits, {name}: expected a list of unseen classes, got {unseen!r}")
        for label in unseen:
            check_choice(f"class in split {name}", str(label), classes)
        if not re.fullmatch(r"\w[\w .-]*", str(name)):
            raise ValueError(f"splits: expected names of letters, digits, _, . and -, got {name!r}")
        if str(name).lower() in RESERVED or re.match("(random|pseudo)-", str(name).lower()):
            raise ValueError(f"splits: {name!r} has a meaning of its own; expected another name")
        splits[str(name)] = tuple(classes.index(str(label)) for label in unseen)
    return splits


def _skeleton(record: Any, default: Skeleton | None) -> Skeleton:
    """A layout by name, or one defined by the record."""
    if record is None:
        if default is None:
            raise ValueError(f"expected a key 'skeleton': one of {', '.join(SKELETONS)}, or joints")
        return default
    if isinstance(record, str):
        check_choice("skeleton", record, SKELETONS)
        return SKELETONS[record]
    return skeleton_of_names(record)
