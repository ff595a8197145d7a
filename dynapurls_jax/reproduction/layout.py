"""The layout of a table: rows and columns as overrides of a dataset's configuration."""

from typing import Any, NamedTuple

Overrides = dict[str, Any]  # keys as on the command line, such as "method.purls.partition"
EVERY_GRANULARITY = "all granularities"  # name of a result: score over all granularities


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      kind: kind of job, a name in `kinds.KINDS` or `kinds.ENCODER_KINDS`.
      pick: name of the job's result, or its last part (`Row.pick` is the first part).
      published: whether its jobs use the published protocol of a row.
    """

    name: str
    overrides: Overrides
    kind: str = "zsl"
    pick: str = "accuracy"
    published: bool = False


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      pick: first part of the names of its results.
      published: overrides of the published protocol; None for a row without one.
    """

    name: str
    overrides: Overrides
    pick: str = ""
    published: Overrides | None = None


class Table(NamedTuple):
    """A table; `note` explains its columns.

    Attributes:
      random: random splits of each size of the dataset's splits, in place of these.
    """

    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    note: str = ""
    random: bool = False


def overrides_of(row: Row, column: Column) -> Overrides | None:
    """The overrides of a cell; None if there is no such cell."""
    if column.published and row.published is None:
        return None
    published = row.published if column.published and row.published else {}
    return row.overrides | published | column.overrides


def method(name: str) -> Overrides:
    """The overrides that select a test-time method."""
    return {"adapter.name": name}


STATIC, PAPER, DEFAULT = method("static"), method("dynapurls"), method("balanced")
