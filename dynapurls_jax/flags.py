"""What the two commands share: the --config flag and its errors, clear and without a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from data_pipelines.errors import DataError
from dynapurls_jax.config import default_config
from dynapurls_jax.training.checkpoints import CheckpointError
from dynapurls_jax.training.stages import WorkdirMismatchError

# Errors that a user can act on: their message says everything, so no traceback is shown.
USER_ERRORS = (
    CheckpointError,
    DataError,
    FileNotFoundError,
    ModuleNotFoundError,
    ValueError,
    WorkdirMismatchError,
)


def define_config(default: str | None) -> flags.FlagHolder:
    """`--config=FILE` with `--config.key=value` overrides."""
    return config_flags.DEFINE_config_file(
        "config",
        default,
        "Experiment: a Python file with get_config(). Any key of it can be overridden: "
        "--config.alignment.query=per_candidate. dynapurls_jax/config.py lists all keys.",
        lock_config=True,
    )


def check_config(config: ConfigDict) -> None:
    """Refuses a config that lacks keys, as one not made by `default_config` would."""
    missing = [key for key in default_config() if key not in config]
    if missing:
        raise ValueError(
            f"config lacks {', '.join(missing)}: get_config() should start from "
            "dynapurls_jax.config.default_config()"
        )


def default_workdir(config: ConfigDict) -> Path:
    """`runs/<config.name>`."""
    return Path("runs") / config.name


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command; errors of the user's making end it with their message and status 2."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
        if not flags.FLAGS["verbosity"].present:  # libraries log every file they touch
            logging.set_verbosity(logging.WARNING)
        try:
            main(argv)
        except USER_ERRORS as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
            sys.exit(130)

    app.run(guarded)
