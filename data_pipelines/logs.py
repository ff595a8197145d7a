"""Log lines on standard error; standard output has results alone."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from absl import logging as absl_logging

log = logging.getLogger("dynapurls")


class _Lines(logging.Handler):
    """Prints to the standard error of the moment, which a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


log.propagate = False  # absl's handler of the root logger would repeat each line
log.addHandler(_Lines())
log.setLevel(logging.INFO)


def set_verbosity(quiet: bool = False, verbose: bool = False) -> None:
    """Chooses the log lines that are shown.

    Args:
      quiet: warnings and errors alone.
      verbose: log lines of the libraries too.

    Raises:
      ValueError: both.
    """
    if quiet and verbose:
        raise ValueError("expected one of --quiet and --verbose, got both")
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    log.setLevel(level)
    absl_logging.set_verbosity(absl_logging.INFO if verbose else absl_logging.ERROR)


def is_quiet() -> bool:
    """Whether only warnings and errors are shown."""
    return not log.isEnabledFor(logging.INFO)


def is_verbose() -> bool:
    """Whether tracebacks and log lines of the libraries are shown."""
    return log.isEnabledFor(logging.DEBUG)


@contextmanager
def without_library_errors() -> Iterator[None]:
    """Leaves out what libraries log of errors that the caller reports in words."""
    before = absl_logging.get_verbosity()
    if not is_verbose():
        absl_logging.set_verbosity(absl_logging.FATAL)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)


def warn_left_out(reasons: Sequence[str], most: int = 10) -> None:
    """Warns of inputs that are left out: the first `most` reasons, and the number of the others."""
    for reason in reasons[:most]:
        log.warning(f"left out: {reason}")
    if len(reasons) > most:
        log.warning(f"left out: {len(reasons) - most} more")
