"""Class descriptions in a spreadsheet, in the layout of the published GPT-3 descriptions."""

import csv
from itertools import islice
from pathlib import Path

from data_pipelines.errors import DataError, unknown
from data_pipelines.untrusted import open_zip, readable
from dynapurls_jax.text.descriptions import Descriptions, check_descriptions
from dynapurls_jax.text.granularities import GRANULARITIES

LABEL = "Action Labels"
COLUMNS = {g: "Global Desc" if g == "global" else g.capitalize() for g in GRANULARITIES}
MAX_ROWS, MAX_COLUMNS = 10_000, 100


def read_sheet(file: Path, sheet: str, names: tuple[str, ...]) -> tuple[list[str], Descriptions]:
    """The labels of a sheet, and its descriptions by class name.

    The global text starts with the label, as in the published descriptions.

    Args:
      sheet: its name; not used for a CSV file.
      names: class names in the order of the sheet, which may have more classes after them.

    Returns:
      `C` labels, and `C` class names to granularity to text.

    Raises:
      DataError: the file is no spreadsheet, a column or a text is missing, or the sheet has too few
        classes.
      ValueError: no such sheet.
    """
    where = f"{file}, {sheet}"
    cells = _cells(file, sheet)
    header = [str(cell or "").strip() for cell in cells.pop(0)] if cells else []
    for column in (LABEL, *COLUMNS.values()):
        if column not in header:
            found = [name for name in header if name]
            raise DataError(f"expected a column {column!r}, got {found}", where)
    lines = [line for line in cells if line[header.index(LABEL)]]
    if len(lines) < len(names):
        raise DataError(f"expected {len(names)} classes, got {len(lines)}", where)
    lines = lines[: len(names)]
    texts = [{g: line[header.index(column)] for g, column in COLUMNS.items()} for line in lines]
    descriptions: Descriptions = dict(zip(names, texts, strict=True))
    check_descriptions(descriptions, names, where)
    labels = [str(line[header.index(LABEL)]).strip() for line in lines]
    for label, text in zip(labels, texts, strict=True):
        text["global"] = f"{label}: {text['global']}"
    return labels, descriptions


def _cells(file: Path, sheet: str) -> list[list]:
    """The non-empty lines of a sheet, or of a CSV file, `MAX_ROWS` and `MAX_COLUMNS` at most.

    Without these limits, a single distant cell allocates all cells before it.
    """
    if file.suffix == ".csv":
        with readable("CSV file", file), file.open(encoding="utf-8-sig", newline="") as text:
            return [line[:MAX_COLUMNS] for line in islice(csv.reader(text), MAX_ROWS) if any(line)]
    import openpyxl

    open_zip(file).close()
    with readable("spreadsheet", file):
        # read_only also skips merged cells, of which one can cover the whole sheet.
        book = openpyxl.load_workbook(file, read_only=True)
        names, lines = book.sheetnames, []
        if sheet in names:
            lines = book[sheet].iter_rows(max_row=MAX_ROWS, max_col=MAX_COLUMNS, values_only=True)
        cells = [list(line) for line in lines if any(cell is not None for cell in line)]
        book.close()
    if sheet not in names:
        raise unknown(f"sheet of {file}", sheet, names)
    return cells
