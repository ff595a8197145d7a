"""Names of classes, splits and files stay text in reports."""

import re

import numpy as np
import pytest

from data_pipelines.errors import DataError
from dynapurls_jax.config import default_config
from dynapurls_jax.evaluation.markdown import escaped
from dynapurls_jax.evaluation.report import ReportInfo, RunResult, write_report
from dynapurls_jax.evaluation.streams import Streams
from dynapurls_jax.reproduction.pages import Cell, Page, markdown, readme_table
from tests.helpers.corpora import tiny_corpus

EVIL = (
    "<script>alert(1)</script>",
    "a | b",
    "two\nlines",
    "[x](javascript:alert(1))",
    "\x1b[2J`x`",
)


def cells(line: str) -> int:
    """Of a row of a Markdown table."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_names_stay_text_in_reports(tmp_path):
    names = tuple(EVIL)
    labels = np.arange(len(names))
    same = labels[None]
    yes = np.ones(same.shape)
    streams = Streams(order=same, predicted=same, confidence=yes, admitted=yes, adapted=yes)
    methods = {"static": streams, "balanced": streams}
    results = [RunResult(split, 0, names, labels, methods, None, {}) for split in ("2_1", "|[<b>")]
    corpus = tiny_corpus(classes=2)
    info = ReportInfo(default_config(), corpus, "the command")
    text = write_report(tmp_path, results, info)
    oracle = [RunResult("|[<b>", 0, names, labels, {}, 0.5, {})]
    text += write_report(tmp_path, oracle, info)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [cells(line) for line in rows]
    for head, width in ((0, 10), (4, 4)):
        assert widths[head] == width
    assert set(widths) == {10, 4, 6}
    assert len(rows) == 4 + 2 + 2 * len(names) + 3
    assert not re.search(r"<script|<b>|\x1b|\n(lines|two$)|(?<!\\)\[x(?<!\\)\]", text)
    assert r"| &lt;script&gt;alert(1)&lt;/script&gt; |" in text
    assert r"| a \| b |" in text
    assert "| two lines |" in text
    assert r"\x1b" in text
    assert "(%7C%5B%3Cb%3E-seed0.html)" in text


def test_names_stay_text_in_tables_of_results():
    found = [Cell("|<b>", "", column, 1.0, 0.0, [1.0], None) for column in ("chance", "static")]
    found += [
        Cell("|<b>", "", column, 1.0, 0.0, [1.0], None) for column in ("balanced", "dynapurls")
    ]
    page = Page("3", "A table", "", "custom", False, 1, ["abc"], ["cpu"], "the command", found)
    for text in (markdown(page), readme_table([page])):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({cells(row) for row in rows}) == 1
        assert r"\|&lt;b&gt;" in text


@pytest.mark.parametrize(
    "name", ["walk", "sit down (chair)", "pick_up", "55_5", "größer", "a, b-c"]
)
def test_ordinary_names_stay_as_they_are(name):
    assert escaped(name) == name


def test_an_error_cannot_steer_the_terminal():
    error = DataError("got \x1b]0;owned\x07 and \u202e", "a\x1b[2J.mat\r")
    assert str(error) == r"a\x1b[2J.mat\r: got \x1b]0;owned\x07 and \u202e"
    assert str(DataError("expected größer", "x\udcff.mat")) == r"x\udcff.mat: expected größer"
    str(DataError("", "\udcff")).encode()


def test_a_class_name_is_no_formula(tmp_path):
    import matplotlib.pyplot as plt

    figure = plt.figure()
    figure.suptitle(r"$\frac{$")
    figure.savefig(tmp_path / "x.png")  # an error, if it were read as one
    plt.close(figure)
    assert (tmp_path / "x.png").stat().st_size > 1000
