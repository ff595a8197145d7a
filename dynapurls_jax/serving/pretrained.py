"""Finds models by name: models in the package, model files, and trained runs."""

from importlib import resources
from pathlib import Path

from data_pipelines import stored
from data_pipelines.errors import DataError, unknown
from dynapurls_jax.serving.model import Model
from dynapurls_jax.serving.model_file import RUN_MODEL, SUFFIX, read_model
from dynapurls_jax.serving.recogniser import Recogniser


def pretrained_names() -> tuple[str, ...]:
    """Sorted names of the models in the package."""
    folder = resources.files("dynapurls_jax").joinpath("pretrained")
    return tuple(sorted(f.name.removesuffix(SUFFIX) for f in folder.iterdir() if SUFFIX in f.name))


def load_pretrained(name: str | Path = "universal") -> Recogniser:
    """Loads a trained model that recognises actions by their names or sentences.

    Args:
      name: see `find_model`.

    Raises:
      ValueError, DataError, FileNotFoundError: see `find_model`.
    """
    return Recogniser(find_model(name))


def find_model(name: str | Path) -> Model:
    """Loads a trained model, without training data.

    Args:
      name: a name of `pretrained_names()`; a file that `dynapurls export` wrote; a workdir, for
        its first split and seed; or the folder of a run, `<workdir>/<split>/seed<k>`.

    Raises:
      ValueError: there is no such model or file; the message suggests a similar name.
      FileNotFoundError: the folder has no trained run.
      DataError: the file is no model file of this version.
    """
    path = Path(name)
    if path.is_dir():
        return read_model(_run_folder(path) / RUN_MODEL)
    if path.suffix == SUFFIX or path.is_file():
        return read_model(path)
    if str(name) not in pretrained_names():
        raise unknown("pretrained model, file or workdir", str(name), pretrained_names())
    folder = resources.files("dynapurls_jax").joinpath("pretrained")
    with resources.as_file(folder.joinpath(f"{name}{SUFFIX}")) as file:
        return read_model(file)


def _run_folder(folder: Path) -> Path:
    """The folder itself if it is that of a run; otherwise the first split and seed of a workdir."""
    record = folder / "config.json"
    if not record.is_file():
        return folder
    config = stored.read_json(record, "train again to renew it")
    try:
        return folder / config["splits"][0] / f"seed{config['seeds'][0]}"
    except (IndexError, KeyError, TypeError) as error:
        raise DataError(
            f"no configuration of this version ({error}); train again", record
        ) from error
