"""Errors for invalid input, checks of settings, and suggestions for unknown names."""

import difflib
from collections.abc import Iterable
from typing import Any

_QUOTED = 200  # characters


def shown(text: str) -> str:
    r"""The text with escaped control characters (`\x1b`), safe for terminals and reports."""
    return "".join(
        c
        if c.isprintable() or c in "\n\t"
        else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def shortened(text: str) -> str:
    """The text, or its first and last 200 characters: errors quote what may have gigabytes."""
    return text if len(text) <= 2 * _QUOTED else f"{text[:_QUOTED]} ... {text[-_QUOTED:]}"


class DataError(ValueError):
    """Input that cannot be used.

    The message has the file, the line if known, the expected and the actual content.
    """

    def __init__(self, message: str, file: object, line: int | None = None):
        self.file = str(file)
        self.line = line
        where = shortened(self.file) if line is None else f"{shortened(self.file)}, line {line}"
        super().__init__(shown(f"{where}: {shortened(message)}"))


class BadFilesError(DataError):
    """Some files cannot be used; the message has the first of them and the file that lists all."""

    SHOWN = 20

    def __init__(self, errors: list[str], total: int, listed: object):
        shown = "\n".join(f"  {error}" for error in errors[: self.SHOWN])
        more = f"\n  ... and {len(errors) - self.SHOWN} more" * (len(errors) > self.SHOWN)
        super().__init__("", listed)
        self.args = (
            f"{listed}: {len(errors)} of {total} files cannot be used:\n{shown}{more}\n"
            "Replace them, or skip them with --config.data.skip_bad=True. Files that were read are "
            "not read again",
        )


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not in `known`; the message suggests the nearest."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")


def check_choice(key: str, value: object, choices: Iterable[str]) -> None:
    """Checks that a value is one of `choices`.

    Raises:
      ValueError: it is not; the message suggests the nearest.
    """
    choices = tuple(choices)
    if value not in choices:
        raise unknown(key, value, choices)


def check_at_least(least: float, **values: Any) -> None:
    """Checks that values are `least` or more; traced values (of a sweep) are not checked.

    Raises:
      ValueError: a value is smaller; the message names it.
    """
    for key, value in values.items():
        if isinstance(value, int | float) and value < least:
            raise ValueError(f"{key}: expected {least} or more, got {value}")


def check_positive(**values: Any) -> None:
    """Checks that values are positive; traced values (of a sweep) are not checked.

    Raises:
      ValueError: a value is 0 or negative; the message names it.
    """
    for key, value in values.items():
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"{key}: expected more than 0, got {value}")


def check_share(**values: Any) -> None:
    """Checks that values are in [0, 1]; traced values (of a sweep) are not checked.

    Raises:
      ValueError: a value is outside; the message names it.
    """
    for name, value in values.items():
        if isinstance(value, int | float) and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a share in [0, 1], got {value}")
