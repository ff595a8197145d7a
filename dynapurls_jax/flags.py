"""Shared by the commands with a configuration: their flags, help, and errors in words."""

import sys
from collections.abc import Callable, Iterable

from absl import app, flags
from ml_collections import config_flags

from data_pipelines.errors import DataError
from data_pipelines.logs import set_verbosity
from dynapurls_jax.commands import QUIET, VERBOSE, Parser, errors_in_words
from dynapurls_jax.config_errors import parsing_fault
from dynapurls_jax.config_names import config_names, typed
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.signals import stop_on_signals
from dynapurls_jax.training.stages import CheckpointError, NonFiniteError, WorkdirMismatchError

# Errors that a user can act on: their message is complete, so no traceback is shown.
USER_ERRORS = (
    CheckpointError,
    DataError,
    ModuleNotFoundError,
    NonFiniteError,
    OSError,
    ValueError,
    WorkdirMismatchError,
)

HELP = {"help", "helpshort", "h", "?"}  # absl's others, helpfull and helpxml, list all flags

_VALUES = {
    "int": "N",
    "float": "X",
    "comma separated list of strings": "A,B,...",
    "config object": "NAME",
}

_QUIET = flags.DEFINE_bool("quiet", False, f"{QUIET.capitalize()}.")
_VERBOSE = flags.DEFINE_bool("verbose", False, f"{VERBOSE.capitalize()}.")


def define_config(default: str | None) -> flags.FlagHolder:
    """`--config=NAME` or `--config=FILE`, with `--config.key=value` overrides."""
    return config_flags.DEFINE_config_file(
        "config",
        default,
        f"Configuration: one of {', '.join(config_names())}, or a Python file with get_config(). "
        "--config.KEY=VALUE changes a key of it: --config.method.name=ridge, "
        "--config.splits=22_5,18_9.",
        lock_config=True,
    )


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command; an error of the user's input ends it with its message and status 2.

    Ctrl-C and SIGTERM end it with status 130 and 143, after the work so far can be resumed.
    """

    def guarded(argv: list[str]) -> None:
        with errors_in_words(USER_ERRORS):
            if len(argv) > 1:
                raise ValueError(f"unexpected arguments: {' '.join(argv[1:])}")
            set_verbosity(_QUIET.value, _VERBOSE.value)
            keep_memory()
            stop_on_signals()
            main(argv)

    app.run(guarded, flags_parser=_parsed)


def _parsed(argv: list[str]) -> list[str]:
    """Parses the flags; prints the help."""
    if HELP & {argument.lstrip("-") for argument in argv[1:]}:
        print(help_of(sys.modules["__main__"].__doc__, _own_flags(argv[0])), end="")
        sys.exit(0)
    try:
        return flags.FLAGS([argv[0], *typed(argv[1:])])
    except Exception as error:  # a configuration is a program, which may raise any error
        print(f"error: {parsing_fault(error, argv[1:])}", file=sys.stderr)
        sys.exit(2)


def _own_flags(script: str) -> list[flags.Flag]:
    """The flags of a command, --config first, without those of absl and of all commands."""
    config = [flags.FLAGS["config"]] if "config" in flags.FLAGS else []
    return [*config, *flags.FLAGS.get_key_flags_for_module(script)]


def help_of(docstring: str | None, known: Iterable[flags.Flag]) -> str:
    """The help of a command: its docstring, then flags with their defaults in brackets."""
    parser = Parser(description=docstring)
    for flag in known:
        names = [f"--{flag.name}"]
        choices = "|".join(getattr(flag.parser, "enum_values", ()))
        text = (flag.help or "").removeprefix(f"<{choices}>: ").replace("%", "%%")
        if flag.boolean:
            names += [f"--no{flag.name}"] if flag.default is not False else []
            parser.add_argument(*names, action="store_true", help=text)
            continue
        default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
        if default is not None and default != "" and flag.name != "config":
            text += f" [{default}]"
        value = choices or _VALUES.get(flag.flag_type(), "VALUE")
        parser.add_argument(*names, metavar=value, help=text)
    return parser.format_help()
