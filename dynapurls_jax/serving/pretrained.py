"""Models that ship with the package, by name."""

from importlib import resources
from pathlib import Path

from data_pipelines.errors import unknown
from dynapurls_jax.serving.model_file import SUFFIX, read_model
from dynapurls_jax.serving.recogniser import Recogniser


def pretrained_names() -> tuple[str, ...]:
    """Names of the models that ship with the package; sorted."""
    folder = resources.files("dynapurls_jax").joinpath("pretrained")
    return tuple(sorted(f.name.removesuffix(SUFFIX) for f in folder.iterdir() if SUFFIX in f.name))


def load_pretrained(name: str | Path = "universal") -> Recogniser:
    """A trained model, ready to recognise any actions.

    Args:
      name: of `pretrained_names()`, or a file that `scripts/export.py` wrote.

    Raises:
      ValueError: there is no such model or file; names the nearest.
      DataError: the file is no model of this version.
    """
    path = Path(name)
    if path.suffix == SUFFIX or path.is_file():
        return Recogniser(read_model(path))
    if str(name) not in pretrained_names():
        raise unknown("pretrained model or file", str(name), pretrained_names())
    folder = resources.files("dynapurls_jax").joinpath("pretrained")
    with resources.as_file(folder.joinpath(f"{name}{SUFFIX}")) as file:
        return Recogniser(read_model(file))
