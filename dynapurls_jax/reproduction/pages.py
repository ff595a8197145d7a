"""The cells of a table from records, and the table as Markdown, CSV and JSON."""

import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from dynapurls_jax.evaluation.markdown import escaped
from dynapurls_jax.evaluation.metrics import mean_std
from dynapurls_jax.reproduction.jobs import group_of, job_of, runs_of
from dynapurls_jax.reproduction.layout import Table, overrides_of
from dynapurls_jax.reproduction.paper import NOTE, paper_figure
from dynapurls_jax.reproduction.records import Records

SPEED = "samples/ms"  # the only results that are not in [0, 1]


class Cell(NamedTuple):
    """A cell: mean and standard deviation over runs of their means over stream orders.

    Attributes:
      split: name of the split, or size of random splits.
      row, column: names in the table.
      mean, std, values: over runs, and of each run; accuracies in %.
      paper: the figure that the paper reports; None if there is none.
    """

    split: str
    row: str
    column: str
    mean: float
    std: float
    values: list[float]
    paper: float | None

    def __str__(self) -> str:
        if self.column == "chance":
            return f"{self.mean:.1f}"
        if self.column == SPEED:  # spans several orders of magnitude
            return f"{self.mean:.3g} ± {self.std:.2g}"
        return f"{self.mean:.1f} ± {self.std:.1f}"


class Page(NamedTuple):
    """A table with its results and their origin.

    Attributes:
      name: a key of `tables.TABLES`.
      synthetic: whether the dataset is synthetic.
      orders: number of stream orders of each run.
      commits, devices: commits of the code and devices of the results.
      command: the command that makes the table.
      cells: cells in the order of splits, rows and columns.
    """

    name: str
    title: str
    note: str
    dataset: str
    synthetic: bool
    orders: int
    commits: list[str]
    devices: list[str]
    command: str
    cells: list[Cell]

    @property
    def picture_title(self) -> str:
        """The title of the table's figure."""
        return f"{self.dataset}{', SYNTHETIC data' if self.synthetic else ''}, unseen classes"


def cells_of(
    name: str, table: Table, config: ConfigDict, seeds: int, records: Records
) -> tuple[list[Cell], list[str], list[str]]:
    """The cells of a table that have records, and the records' commits and devices."""
    cells, used = [], []
    groups: dict[str, list[tuple[str, int]]] = {}
    for split, seed in runs_of(config, seeds):
        groups.setdefault(group_of(split), []).append((split, seed))
    for group, runs in groups.items():
        for row in table.rows:
            for column in table.columns:
                if (overrides := overrides_of(row, column)) is None:
                    continue
                jobs = [job_of(column.kind, split, seed, overrides) for split, seed in runs]
                done = [record for record in map(records.get, jobs) if record is not None]
                if not done:
                    continue
                factor = 1 if column.pick == SPEED else 100
                results = [record["results"][row.pick + column.pick] for record in done]
                values = [factor * float(np.mean(result)) for result in results]
                mean, std = mean_std(values)
                paper = paper_figure(config.data.name, name, row.name, column.name, group)
                cells.append(Cell(group, row.name, column.name, mean, std, values, paper))
                used += done
    commits, devices = (
        list(dict.fromkeys(record[kind] for record in used)) for kind in ("commit", "device")
    )
    return cells, commits, devices


def markdown(page: Page, heading: str = "#") -> str:
    """The table in Markdown, with a block of rows for each split.

    Args:
      heading: Markdown prefix of the heading.
    """
    title = f"{page.dataset}, SYNTHETIC data" if page.synthetic else page.dataset
    columns = list(dict.fromkeys(cell.column for cell in page.cells))
    rows = list(dict.fromkeys(cell.row for cell in page.cells))
    papers = [c for c in columns if any(x.column == c and x.paper is not None for x in page.cells)]
    header = ["split", "runs", *([""] if any(rows) else []), *columns]
    header += [f"paper: {column}" for column in papers]
    lines = [
        f"{heading} {page.title} ({title})",
        "",
        "In % (speeds in samples/ms), mean ± std over runs (seeds or random splits), each the mean "
        f"over {page.orders} stream orders. {page.note}" + (f" {NOTE}" if papers else ""),
        "",
        f"| {' | '.join(header)} |",
        "|---" * len(header) + "|",
    ]
    cell_at = {(cell.split, cell.row, cell.column): cell for cell in page.cells}
    for split in dict.fromkeys(cell.split for cell in page.cells):
        for row in rows:
            cells = [cell_at.get((split, row, column)) for column in columns]
            if not any(cells):
                continue  # not measured yet
            runs = max((len(cell.values) for cell in cells if cell), default=0)
            texts = [escaped(split), str(runs), *([row] if any(rows) else [])]
            texts += ["-" if cell is None else str(cell) for cell in cells]
            printed = [cell_at.get((split, row, column)) for column in papers]
            texts += ["-" if c is None or c.paper is None else f"{c.paper:g}" for c in printed]
            lines.append(f"| {' | '.join(texts)} |")
    lines += ["", f"`{page.command}`; commit {', '.join(page.commits)}; {', '.join(page.devices)}."]
    return "\n".join(lines) + "\n"


def table_csv(page: Page) -> str:
    """The table as CSV, with a line for each cell."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["split", "row", "column", "mean", "std", "runs", "paper"])
    for cell in page.cells:
        writer.writerow([*cell[:5], len(cell.values), "" if cell.paper is None else cell.paper])
    return lines.getvalue()


def write_page(page: Page, folder: Path) -> list[Path]:
    """Writes a table as `.md`, `.csv` and `.json` to a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    record = page._asdict() | {"cells": [cell._asdict() for cell in page.cells]}
    written = []
    for suffix, text in (
        ("md", markdown(page)),
        ("csv", table_csv(page)),
        ("json", json.dumps(record, indent=1) + "\n"),
    ):
        path = folder / f"{file_stem(page.name, page.dataset)}.{suffix}"
        path.write_text(text, "utf-8")
        written.append(path)
    return written


def file_stem(name: str, dataset: str) -> str:
    """The file name of a table without suffix: "table3_demo", "fig7_demo"."""
    return f"table{name}_{dataset}" if name.isdecimal() else f"{name}_{dataset}"


def read_page(path: Path) -> Page:
    """Reads a page from its JSON file."""
    record = json.loads(path.read_text("utf-8"))
    record["cells"] = [Cell(**cell) for cell in record["cells"]]
    return Page(**record)
