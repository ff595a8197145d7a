"""Shared by the commands: the --config flag, and errors without a traceback."""

import sys
from ast import literal_eval
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

from data_pipelines.errors import DataError
from dynapurls_jax.config_names import config_names, typed
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.signals import Stopped, stop_on_signals
from dynapurls_jax.training.stages import CheckpointError, NonFiniteError, WorkdirMismatchError

# Errors that a user can act on: their message says everything, so no traceback is shown.
USER_ERRORS = (
    CheckpointError,
    DataError,
    ModuleNotFoundError,
    NonFiniteError,
    OSError,
    ValueError,
    WorkdirMismatchError,
)

HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}


def define_config(default: str | None) -> flags.FlagHolder:
    """`--config=NAME` or `--config=FILE`, with `--config.key=value` overrides."""
    return config_flags.DEFINE_config_file(
        "config",
        default,
        f"Experiment: one of {', '.join(config_names())}, or a Python file with get_config(). Any "
        "key of it can be overridden: --config.method.name=ridge, --config.splits=22_5,18_9. "
        "dynapurls_jax/config.py names the settings behind each section.",
        lock_config=True,
    )


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command; an error of the user's input ends it with its message and status 2.

    Ctrl-C and SIGTERM end it with status 130 and 143, after the work so far can be resumed.
    """

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
        if not flags.FLAGS["verbosity"].present:  # libraries log every file they touch
            logging.set_verbosity(logging.ERROR)
        keep_memory()
        stop_on_signals()
        try:
            main(argv)
        except USER_ERRORS as error:
            if flags.FLAGS.verbosity > 0:  # --verbosity=1 shows where it came from
                raise
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except Stopped as stopped:
            print(f"\nstopped by {stopped}; the same command resumes here", file=sys.stderr)
            sys.exit(stopped.status)

    def parse(argv: list[str]) -> list[str]:
        try:
            return app.parse_flags_with_usage([argv[0], *typed(argv[1:])])
        except SystemExit:  # absl prints the help and ends with status 1
            sys.exit(0 if HELP & {argument.lstrip("-") for argument in argv} else 2)
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            print(f"error: {message_of(error)}", file=sys.stderr)
            sys.exit(2)

    app.run(guarded, flags_parser=parse)


def message_of(error: Exception) -> str:
    """An error in words: a missing key's message comes quoted, once or twice."""
    text = str(error)
    try:
        while text[:1] in ("'", '"') and text[:1] == text[-1:]:
            text = str(literal_eval(text))
    except (SyntaxError, ValueError):
        pass  # it only begins and ends with quoted words
    return f"no key {text}".replace("\n", ". ") if "\nDid you mean" in text else text
