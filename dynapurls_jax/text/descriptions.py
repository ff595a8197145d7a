"""Descriptions of classes: eight texts each, read and checked once, then trusted."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from data_pipelines.errors import DataError
from dynapurls_jax.config import GRANULARITIES

# Class name to granularity to a text, or to several phrasings of it.
Descriptions = dict[str, Mapping[str, str | list[str]]]
# `C` lists of `G` lists of phrasings, in class id order.
ClassTexts = list[list[list[str]]]


# Datasets whose classes are some of another's.
_PART_OF = {"ntu60": "ntu120", "pku_mmd_2": "pku_mmd"}


def shipped_descriptions(dataset: str) -> Path:
    """The project's own descriptions of a dataset.

    Raises:
      ValueError: there are none; names the datasets that have some.
    """
    folder = Path(str(resources.files("data_pipelines").joinpath("descriptions")))
    path = folder / f"{_PART_OF.get(dataset, dataset)}.json"
    if not path.exists():
        known = ", ".join(sorted([*(file.stem for file in folder.glob("*.json")), *_PART_OF]))
        raise ValueError(
            f"no descriptions of {dataset!r} are shipped (there are some of {known}); write some "
            "and name them with --config.text.descriptions=mine.json, or take the class names with "
            "--config.text.descriptions=names"
        )
    return path


def load_descriptions(path: str | Path) -> Descriptions:
    """Reads `{"provenance": ..., "classes": {class name: {granularity: text or texts}}}`.

    Raises:
      FileNotFoundError: no such file.
      DataError: not JSON, or not of this form.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a JSON file with descriptions, found no file {path}")
    try:
        record = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON ({error.msg})", path, error.lineno) from error
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 text ({error.reason})", path) from error
    if not isinstance(record, dict) or not isinstance(record.get("classes"), dict):
        raise DataError('expected an object with a key "classes"', path)
    return record["classes"]


def check_descriptions(
    descriptions: Mapping, class_names: Sequence[str], source: object
) -> ClassTexts:
    """Puts descriptions in class id order, all eight of each.

    Args:
      descriptions: class name to granularity to a text, or a list of phrasings.
      class_names: the classes that need one; others may be there too.
      source: named in errors.

    Raises:
      DataError: a class or a granularity is missing, or a text is empty or not a string.
    """
    missing = [name for name in class_names if name not in descriptions]
    if missing:
        raise DataError(
            f"expected descriptions of all {len(class_names)} classes, got {len(descriptions)}; "
            f"without one: {', '.join(map(repr, missing[:5]))}" + (", ..." * (len(missing) > 5)),
            source,
        )
    return [
        [_phrasings(descriptions[name], name, granularity, source) for granularity in GRANULARITIES]
        for name in class_names
    ]


def _phrasings(texts: object, name: str, granularity: str, source: object) -> list[str]:
    found = texts.get(granularity) if isinstance(texts, Mapping) else None
    given = found if isinstance(found, list) else [found]
    phrasings = [text.strip() for text in given if isinstance(text, str) and text.strip()]
    if not phrasings or len(phrasings) < len(given):
        raise DataError(
            f"class {name!r}: expected a text for {granularity!r}, or a list of them, "
            f"got {found!r}",
            source,
        )
    return phrasings
