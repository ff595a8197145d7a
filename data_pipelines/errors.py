"""The error that bad input raises, and a helper that names what was probably meant."""

import difflib
from collections.abc import Iterable


def shown(text: str) -> str:
    r"""A text for terminals and reports: what would steer them is written out, as `\x1b` is."""
    return "".join(
        c
        if c.isprintable() or c in "\n\t"
        else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


class DataError(ValueError):
    """Input that cannot be used; says which file, where in it, what was expected and what came."""

    def __init__(self, message: str, file: object, line: int | None = None):
        where = f"{file}" if line is None else f"{file}, line {line}"
        super().__init__(shown(f"{where}: {message}"))
        self.file = str(file)
        self.line = line


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not among the known ones; suggests the nearest."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")


class BadFilesError(DataError):
    """Some files of many cannot be used; names the first and where all are listed."""

    SHOWN = 20

    def __init__(self, errors: list[str], total: int, listed: object):
        shown = "\n".join(f"  {error}" for error in errors[: self.SHOWN])
        more = f"\n  ... and {len(errors) - self.SHOWN} more" * (len(errors) > self.SHOWN)
        super().__init__(
            f"{len(errors)} of {total} files cannot be used:\n{shown}{more}\n"
            "Replace them, or leave them out with --config.data.skip_bad=True; what could be read "
            "is kept and is not read again",
            listed,
        )
        self.errors = errors
