"""Descriptions of classes: eight texts each, read and checked once, then trusted."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from data_pipelines.errors import DataError

# The order of the granularity axis G, everywhere.
GRANULARITIES = ("global", "head", "hands", "torso", "legs", "start", "middle", "end")

Descriptions = dict[str, dict[str, str]]


def shipped_descriptions(dataset: str) -> Path:
    """The project's own descriptions of a dataset.

    Raises:
      ValueError: there are none; names the datasets that have some.
    """
    folder = Path(str(resources.files("data_pipelines").joinpath("descriptions")))
    path = folder / f"{dataset}.json"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.json")))
        raise ValueError(
            f"no descriptions of {dataset!r} are shipped (there are some of {known}); write some "
            "and name them with --config.text.descriptions=mine.json, or take the class names with "
            "--config.text.descriptions=names"
        )
    return path


def load_descriptions(path: str | Path) -> Descriptions:
    """Reads `{"provenance": ..., "classes": {class name: {granularity: text}}}`.

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
) -> list[list[str]]:
    """Puts descriptions in class id order, all eight of each.

    Args:
      descriptions: class name to granularity to text.
      class_names: the classes that need one; others may be there too.
      source: named in errors.

    Returns:
      `C` lists of `G = 8` texts.

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
    ordered = []
    for name in class_names:
        texts = descriptions[name]
        for granularity in GRANULARITIES:
            text = texts.get(granularity) if isinstance(texts, Mapping) else None
            if not isinstance(text, str) or not text.strip():
                raise DataError(
                    f"class {name!r}: expected a text for {granularity!r}, got {text!r}", source
                )
        ordered.append([texts[granularity].strip() for granularity in GRANULARITIES])
    return ordered
