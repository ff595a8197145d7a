"""Class descriptions: eight texts for each class, from a file or shipped with the project."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from data_pipelines.builders.registry import PUBLIC, public_dataset
from data_pipelines.errors import DataError
from data_pipelines.untrusted import load_json
from dynapurls_jax.text.granularities import GRANULARITIES

# Class name to granularity to a text, or to several phrasings of it.
Descriptions = dict[str, Mapping[str, str | list[str]]]
# `C` lists of `G` lists of phrasings, in class id order.
ClassTexts = list[list[list[str]]]


def shipped_descriptions(dataset: str) -> Path:
    """The file of the project's own descriptions of a dataset.

    Raises:
      ValueError: there is none; the message lists the datasets with descriptions.
    """
    path = _shipped(dataset)
    if not path.is_file():
        described = ", ".join(sorted(name for name in PUBLIC if _shipped(name).is_file()))
        raise ValueError(
            f"no descriptions of {dataset!r} are shipped: expected one of {described}, your own "
            "descriptions with --config.text.descriptions=mine.json, or the class names with "
            "--config.text.descriptions=names"
        )
    return path


def _shipped(dataset: str) -> Path:
    source = public_dataset(dataset).descriptions if dataset in PUBLIC else dataset
    folder = Path(str(resources.files("data_pipelines").joinpath("descriptions")))
    return folder / f"{source}.json"


def find_descriptions(source: str) -> Path:
    """The file of `source`: a file name, or the name of a dataset with shipped descriptions.

    Raises:
      ValueError: see `shipped_descriptions`.
    """
    return Path(source) if Path(source).suffix else shipped_descriptions(source)


def load_descriptions(path: str | Path) -> Descriptions:
    """Reads `{"provenance": ..., "classes": {class name: {granularity: text or texts}}}`.

    Raises:
      FileNotFoundError: no such file.
      DataError: not JSON, or not of this form.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a JSON file with descriptions, found no file {path}")
    record = load_json(path.read_bytes(), path)
    if not isinstance(record, dict) or not isinstance(record.get("classes"), dict):
        raise DataError('expected an object with a key "classes"', path)
    return record["classes"]


def check_descriptions(
    descriptions: Mapping, class_names: Sequence[str], source: object
) -> ClassTexts:
    """Checks descriptions, and puts them in class id order.

    Args:
      descriptions: class name to granularity to a text, or a list of phrasings.
      class_names: the `C` classes of the result; `descriptions` may have more.
      source: of the descriptions, for errors.

    Raises:
      DataError: a class or a granularity is missing, or a text is empty or not a string.
    """
    missing = [name for name in class_names if name not in descriptions]
    if missing:
        raise DataError(
            f"expected descriptions of all {len(class_names)} classes, got {len(descriptions)}; "
            f"missing: {', '.join(map(repr, missing[:5]))}" + (", ..." * (len(missing) > 5)),
            source,
        )
    return [
        [_phrasings(descriptions[name], name, granularity, source) for granularity in GRANULARITIES]
        for name in class_names
    ]


def _phrasings(texts: object, name: str, granularity: str, source: object) -> list[str]:
    value = texts.get(granularity) if isinstance(texts, Mapping) else None
    values = value if isinstance(value, list) else [value]
    phrasings = [text.strip() for text in values if isinstance(text, str) and text.strip()]
    if not phrasings or len(phrasings) < len(values):
        raise DataError(
            f"class {name!r}: expected a text for {granularity!r}, or a list of texts, "
            f"got {value!r}",
            source,
        )
    return phrasings
