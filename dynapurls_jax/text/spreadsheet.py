"""Descriptions in a spreadsheet, in the form of the published GPT-3 descriptions."""

from pathlib import Path

from data_pipelines.safe_io import unpacked_copy
from data_pipelines.errors import DataError, unknown
from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.text.descriptions import Descriptions, check_descriptions

LABEL = "Action Labels"
_DOCTYPE = "<!DOCTYPE"  # where entities are declared that stand for entities that stand for more
MOST_ROWS, MOST_COLUMNS = 10_000, 100
COLUMNS = {g: "Global Desc" if g == "global" else g.capitalize() for g in GRANULARITIES}


def read_sheet(file: Path, sheet: str, names: tuple[str, ...]) -> tuple[list[str], Descriptions]:
    """The labels of a sheet, and its texts by the names of the dataset.

    The label stands before the global text, as where these descriptions were published.

    Args:
      names: of the classes, of which the sheet may have more, behind them.

    Raises:
      DataError: no such sheet or column, too few rows, or a text is missing.
    """
    rows = _rows(file, sheet)
    header = [str(cell or "").strip() for cell in rows.pop(0)] if rows else []
    for column in (LABEL, *COLUMNS.values()):
        if column not in header:
            named = [name for name in header if name]
            raise DataError(f"expected a column {column!r}, got {named}", f"{file}, {sheet}")
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


def _rows(file: Path, sheet: str) -> list[list]:
    """The cells of a sheet, as far as descriptions may go: one far out makes all between them."""
    import openpyxl

    try:
        content = unpacked_copy(file)
        for mark in (_DOCTYPE.encode(), _DOCTYPE.encode("utf-16-le"), _DOCTYPE.encode("utf-16-be")):
            if mark in content.getvalue():
                raise ValueError("expected plain XML, without a document type and its entities")
        # As it is read only, no merged cells are made either, of which one can cover everything.
        book = openpyxl.load_workbook(content, read_only=True)
        names, cells = book.sheetnames, []
        if sheet in names:
            cells = book[sheet].iter_rows(max_row=MOST_ROWS, max_col=MOST_COLUMNS, values_only=True)
        rows = [list(row) for row in cells if any(cell is not None for cell in row)]
    except (DataError, OSError):
        raise
    except Exception as error:  # openpyxl raises whatever it stumbles over
        raise DataError(f"expected a spreadsheet ({error})", file) from error
    if sheet not in names:
        raise unknown(f"sheet of {file}", sheet, names)
    return rows
