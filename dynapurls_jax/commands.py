"""Shared by commands and scripts: the parser of options, and errors without a traceback."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from data_pipelines.logs import is_verbose, set_verbosity

QUIET = "show results, warnings and errors alone"
VERBOSE = "show log lines of the libraries, and tracebacks of errors"


class _Help(argparse.RawDescriptionHelpFormatter):
    """Lines of 100 characters; values of options are N, X or VALUE."""

    def __init__(self, prog: str):
        super().__init__(prog, width=100)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return {int: "N", float: "X"}.get(action.type, "VALUE")  # type: ignore[call-overload]


class Parser(argparse.ArgumentParser):
    """A parser with --quiet and --verbose; its help begins with the description as it stands."""

    def __init__(self, **settings: Any):
        """See `argparse.ArgumentParser`."""
        super().__init__(
            usage=argparse.SUPPRESS,
            formatter_class=_Help,
            allow_abbrev=False,
            **settings,
        )
        shown = self.add_argument_group("output")
        # Without a default: that of a subparser would replace the value before its name.
        for name, text in (("--quiet", QUIET), ("--verbose", VERBOSE)):
            shown.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses, and sets the verbosity."""
        options = super().parse_args(args, namespace)
        try:
            set_verbosity("quiet" in options, "verbose" in options)
        except ValueError as error:
            self.error(str(error))
        return options

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        self.exit(2, f"error: {message}; see --help\n")


def parser_of(docstring: str | None) -> Parser:
    """A parser whose help begins with a module's docstring."""
    return Parser(description=docstring)


@contextmanager
def errors_in_words(
    errors: tuple[type[Exception], ...], stopped: str = "the same command resumes here"
) -> Iterator[None]:
    """Ends the process with status 2 after an error of the input, without a traceback.

    Ctrl-C ends it with status 130, and SIGTERM with 143 after `training.signals.stop_on_signals`.

    Args:
      errors: of the input; their messages have all that a user needs.
      stopped: what is printed after Ctrl-C.
    """
    try:
        yield
    except errors as error:
        if is_verbose():
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"\nstopped{f' by {stop}' if str(stop) else ''}; {stopped}", file=sys.stderr)
        sys.exit(getattr(stop, "status", 130))
