"""Errors of bad input, checks of settings, and the suggestion of the nearest known name."""

import difflib
from collections.abc import Iterable
from typing import Any


def shown(text: str) -> str:
    r"""A text for terminals and reports; control characters are escaped, as in `\x1b`."""
    return "".join(
        c
        if c.isprintable() or c in "\n\t"
        else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


class DataError(ValueError):
    """Input that cannot be used; the message has the file, the line, what was expected and got."""

    def __init__(self, message: str, file: object, line: int | None = None):
        where = f"{file}" if line is None else f"{file}, line {line}"
        super().__init__(shown(f"{where}: {message}"))
        self.file = str(file)
        self.line = line


class BadFilesError(DataError):
    """Some files of many cannot be used; names the first ones and the list of all."""

    SHOWN = 20

    def __init__(self, errors: list[str], total: int, listed: object):
        shown = "\n".join(f"  {error}" for error in errors[: self.SHOWN])
        more = f"\n  ... and {len(errors) - self.SHOWN} more" * (len(errors) > self.SHOWN)
        super().__init__(
            f"{len(errors)} of {total} files cannot be used:\n{shown}{more}\n"
            "Replace them, or leave them out with --config.data.skip_bad=True; files that were "
            "read are kept and are not read again",
            listed,
        )


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not in `known`; suggests the nearest."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")


def check_choice(key: str, value: object, choices: Iterable[str]) -> None:
    """Refuses a name that does not exist.

    Raises:
      ValueError: names the nearest.
    """
    choices = tuple(choices)
    if value not in choices:
        raise unknown(key, value, choices)


def check_at_least(least: float, **values: Any) -> None:
    """Refuses values below `least`; traced values (of a sweep) are not checked.

    Raises:
      ValueError: names the first.
    """
    for key, value in values.items():
        if isinstance(value, int | float) and value < least:
            raise ValueError(f"{key}: expected {least} or more, got {value}")


def check_positive(**values: Any) -> None:
    """Refuses zero and negative values; traced values (of a sweep) are not checked.

    Raises:
      ValueError: names the first.
    """
    for key, value in values.items():
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"{key}: expected more than 0, got {value}")


def check_share(**values: Any) -> None:
    """Refuses values outside of [0, 1]; traced values (of a sweep) are not checked.

    Raises:
      ValueError: names the first such value.
    """
    for name, value in values.items():
        if isinstance(value, int | float) and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a share in [0, 1], got {value}")
