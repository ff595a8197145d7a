"""The error that bad input raises, and a helper that names what was probably meant."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Input that cannot be used; says which file, where in it, what was expected and what came."""

    def __init__(self, message: str, file: object, line: int | None = None):
        where = f"{file}" if line is None else f"{file}, line {line}"
        super().__init__(f"{where}: {message}")
        self.file = str(file)
        self.line = line


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not among the known ones; suggests the nearest."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")
