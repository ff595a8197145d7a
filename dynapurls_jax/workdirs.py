"""Trained workdirs as commands find them: the newest one, and the configuration of one."""

from pathlib import Path

from ml_collections import ConfigDict

from data_pipelines import stored
from data_pipelines.errors import DataError

RUNS = Path("runs")


def newest_workdir(root: Path) -> Path:
    """The workdir under `root` that was trained last.

    Raises:
      FileNotFoundError: there is none; the message has the command that makes one.
    """
    found = sorted(root.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f"no trained workdir under {root.resolve()}; make one with\n"
            "  dynapurls train --config=demo"
        )
    return found[-1].parent


def workdir_config(workdir: Path) -> ConfigDict:
    """The configuration that a workdir was trained with last.

    Raises:
      FileNotFoundError: it is not a workdir.
      DataError: its configuration is damaged or of another version.
    """
    from dynapurls_jax.config import restored_config

    path = workdir / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{workdir} is no workdir: it has no config.json")
    values = stored.read_json(path, "train again to renew it")
    try:
        return restored_config(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).partition(". Other fields")[0]
        raise DataError(
            f"no configuration of this version ({reason}); train again", path
        ) from error
