"""Descriptions in a spreadsheet, in the form of the published GPT-3 descriptions."""

import zipfile
from pathlib import Path

from data_pipelines.errors import DataError, unknown
from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.text.descriptions import Descriptions, check_descriptions

LABEL = "Action Labels"
COLUMNS = {g: "Global Desc" if g == "global" else g.capitalize() for g in GRANULARITIES}


def read_sheet(file: Path, sheet: str, names: tuple[str, ...]) -> tuple[list[str], Descriptions]:
    """The labels of a sheet, and its texts by the names of the dataset.

    The label stands before the global text, as where these descriptions were published.

    Args:
      names: of the classes, of which the sheet may have more, behind them.

    Raises:
      DataError: no such sheet or column, too few rows, or a text is missing.
    """
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(file)
    except (KeyError, ValueError, zipfile.BadZipFile, InvalidFileException) as error:
        raise DataError(f"expected a spreadsheet ({error})", file) from error
    if sheet not in book.sheetnames:
        raise unknown(f"sheet of {file}", sheet, book.sheetnames)
    rows = [list(row) for row in book[sheet].iter_rows(values_only=True)]
    header = [str(cell).strip() for cell in rows.pop(0)] if rows else []
    for column in (LABEL, *COLUMNS.values()):
        if column not in header:
            raise DataError(f"expected a column {column!r}, got {header}", f"{file}, {sheet}")
    rows = [row for row in rows if row[header.index(LABEL)]]
    if len(rows) < len(names):
        raise DataError(f"expected {len(names)} classes, got {len(rows)}", f"{file}, {sheet}")
    rows = rows[: len(names)]
    texts = [{g: row[header.index(column)] for g, column in COLUMNS.items()} for row in rows]
    check_descriptions(dict(zip(names, texts, strict=True)), names, f"{file}, {sheet}")
    labels = [str(row[header.index(LABEL)]).strip() for row in rows]
    for label, row in zip(labels, texts, strict=True):
        row["global"] = f"{label}: {row['global']}"
    return labels, dict(zip(names, texts, strict=True))
