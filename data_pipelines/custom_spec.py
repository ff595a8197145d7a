"""The description of a dataset of one's own: `dataset.yaml` in the folder of its files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_pipelines.safe_io import check_parts
from data_pipelines.errors import DataError, unknown
from data_pipelines.skeletons import SKELETONS, Skeleton, skeleton_of_names

SPEC = "dataset.yaml"
FILE_FORMATS = ("text", "npz", "skeleton")
ARRAY_FORMATS = ("pyskl", "gcn_arrays")
KEYS = {
    "name", "like", "format", "files", "skeleton", "classes", "first_class", "metres",
    "train_subjects", "train_views", "splits", "descriptions",
}  # fmt: skip


@dataclass(frozen=True)
class OwnSpec:
    """What `dataset.yaml` says, checked; docs/data.md describes each key.

    Attributes:
      folder: where the file is.
      files: pattern of file names (file formats), or the file or folder itself (array formats).
      metres: how many metres one unit of the files is.
      splits: name to unseen class ids.
    """

    folder: Path
    name: str
    like: str
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


def load_spec(folder: Path, known: dict[str, tuple[Skeleton, tuple[str, ...]]]) -> OwnSpec:
    """Reads and checks the description in a folder.

    Args:
      known: dataset name to its skeleton and classes, for `like`.

    Raises:
      FileNotFoundError: there is none.
      DataError: it is not YAML, or a key is missing, unknown or wrong; says which and where.
    """
    file = folder / SPEC
    if not file.is_file():
        raise FileNotFoundError(
            f"expected a description of your dataset in {file}, found none. "
            "docs/data.md shows one; name its folder with --config.data.manual_dir=..."
        )
    try:
        # Lists, mappings and texts only: a split 4_2 is no number to anybody but YAML, nor is a
        # class named "no" a truth value.
        text = file.read_text("utf-8")
        record = yaml.load(text, Loader=yaml.BaseLoader)
        check_parts(record, len(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise DataError(
            f"not valid YAML ({getattr(error, 'problem', error)})", file, line
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 text ({error.reason})", file) from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"not a description that can be read ({error})", file) from error
    if not isinstance(record, dict):
        raise DataError("expected keys and values", file)
    try:
        return _checked(folder, record, known)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(str(error), file) from error


def _checked(folder: Path, record: dict, known: dict) -> OwnSpec:
    for key in record:
        if key not in KEYS:
            raise unknown("key", key, sorted(KEYS))
    like = record.get("like", "")
    if like and like not in known:
        raise unknown("dataset in like", like, known)
    form = _required(record, "format")
    if form not in FILE_FORMATS + ARRAY_FORMATS:
        raise unknown("format", form, FILE_FORMATS + ARRAY_FORMATS)
    name = str(_required(record, "name"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"name: expected lower-case letters, digits and _, got {name!r}")
    named = record.get("classes") or (known[like][1] if like else [])
    classes = tuple(map(str, named)) if isinstance(named, list | tuple) else ()
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes: expected 2 or more different names, got {named!r}")
    files = str(_required(record, "files"))
    if form in FILE_FORMATS and "{class}" not in files:
        raise ValueError(f"files: expected a pattern with {{class}}, got {files!r}")
    sided = record.get("train_subjects") or record.get("train_views")
    if form in FILE_FORMATS and not sided:
        raise ValueError(
            "expected train_subjects or train_views: without them nothing is left to test on"
        )
    metres = float(record.get("metres", 1))
    if not 0 < metres < 1e6:
        raise ValueError(f"metres: expected how many metres a unit is, got {metres}")
    return OwnSpec(
        folder=folder,
        name=name,
        like=like,
        format=form,
        files=files,
        skeleton=_skeleton(record.get("skeleton"), known[like][0] if like else None),
        classes=classes,
        first_class=int(record.get("first_class", 0)),
        metres=metres,
        train_subjects=_numbers(record, "train_subjects"),
        train_views=_numbers(record, "train_views"),
        splits=_splits(record.get("splits") or {}, classes),
        descriptions=str(record.get("descriptions", "")),
    )


def _required(record: dict, key: str) -> Any:
    if record.get(key) in (None, ""):
        raise ValueError(f"expected a key {key!r}, got {', '.join(map(str, record))}")
    return record[key]


def _numbers(record: dict, key: str) -> tuple[int, ...]:
    values = record.get(key) or []
    if not isinstance(values, list) or not all(str(value).isdecimal() for value in values):
        raise ValueError(f"{key}: expected a list of whole numbers, got {values!r}")
    return tuple(map(int, values))


def _splits(record: Any, classes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    splits = {}
    if not isinstance(record, dict):
        raise ValueError(f"splits: expected names, each with unseen classes, got {record!r}")
    for name, unseen in record.items():
        if not isinstance(unseen, list) or not unseen:
            raise ValueError(f"splits, {name}: expected a list of unseen classes, got {unseen!r}")
        for label in unseen:
            if str(label) not in classes:
                raise unknown(f"class in split {name}", label, classes)
        if not re.fullmatch(r"\w[\w .-]*", str(name)):
            raise ValueError(f"splits: expected names of letters, digits, _, . and -, got {name!r}")
        splits[str(name)] = tuple(classes.index(str(label)) for label in unseen)
    return splits


def _skeleton(record: Any, default: Skeleton | None) -> Skeleton:
    """A layout by name, or one that is spelt out with names of joints."""
    if record is None:
        if default is None:
            raise ValueError(f"expected a key 'skeleton': one of {', '.join(SKELETONS)}, or joints")
        return default
    if isinstance(record, str):
        if record not in SKELETONS:
            raise unknown("skeleton", record, SKELETONS)
        return SKELETONS[record]
    return skeleton_of_names(record)
