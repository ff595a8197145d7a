"""Names of classes, splits and files are escaped in reports and errors."""

import re

from data_pipelines.errors import DataError
from dynapurls_jax.reproduction.pages import Cell, Page, markdown


def cells(line: str) -> int:
    """Number of cells in a row of a Markdown table."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_names_are_escaped_in_tables_of_results():
    found = [Cell("|<b>", "", column, 1.0, 0.0, [1.0], None) for column in ("chance", "static")]
    found += [
        Cell("|<b>", "", column, 1.0, 0.0, [1.0], None) for column in ("balanced", "dynapurls")
    ]
    page = Page("3", "A table", "", "custom", False, 1, ["abc"], ["cpu"], "the command", found)
    text = markdown(page)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({cells(row) for row in rows}) == 1
    assert r"\|&lt;b&gt;" in text


def test_errors_have_no_terminal_escape_sequences():
    error = DataError("got \x1b]0;owned\x07 and \u202e", "a\x1b[2J.mat\r")
    assert str(error) == r"a\x1b[2J.mat\r: got \x1b]0;owned\x07 and \u202e"
    assert str(DataError("expected größer", "x\udcff.mat")) == r"x\udcff.mat: expected größer"
    str(DataError("", "\udcff")).encode()


def test_a_class_name_is_not_parsed_as_a_formula(tmp_path):
    import matplotlib.pyplot as plt

    figure = plt.figure()
    figure.suptitle(r"$\frac{$")
    figure.savefig(tmp_path / "x.png")  # raises if the title is parsed
    plt.close(figure)
    assert (tmp_path / "x.png").stat().st_size > 1000
