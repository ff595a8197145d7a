"""Reports: their content, and the escaping of names."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynapurls_jax.evaluation import figures
from dynapurls_jax.evaluation.markdown import escaped
from dynapurls_jax.evaluation.report import ReportInfo, RunResult, by_split, overview, write_report
from dynapurls_jax.evaluation.streams import Streams
from tests.helpers.corpora import tiny_corpus
from tests.helpers.trained import small_config

EVIL = (
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "a | b",
    "two\nlines",
    "`code`",
    "\x1b[31mred",
)


def cells(line: str) -> int:
    """Cells of a row of a Markdown table."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def info_of(adapter="balanced", **corpus_changes) -> ReportInfo:
    """The information of a report on the tiny corpus."""
    config = small_config()
    config.adapter.name = adapter
    return ReportInfo(config, tiny_corpus(classes=2, **corpus_changes), "the command")


def result_of(
    split, names=("a", "b"), admitted=True, oracle=None, diagnosis=None, seed=0
) -> RunResult:
    """A run with one clip of each class, all of them recognised."""
    labels = np.arange(len(names))
    same, yes = labels[None], np.full((1, len(names)), admitted)
    streams = Streams(order=same, predicted=same, confidence=yes, admitted=yes, adapted=yes)
    methods = (
        {} if oracle is not None else dict.fromkeys(["static", "balanced", "dynapurls"], streams)
    )
    return RunResult(split, seed, names, labels, methods, oracle, {}, None, diagnosis or {})


def test_names_are_escaped_in_reports(tmp_path):
    splits = ("2_1", "|[<b>")
    found = {"a measure": 0.5}
    results = [result_of(split, EVIL, diagnosis=found) for split in splits]
    text = write_report(tmp_path, results, info_of())
    text += write_report(tmp_path, [result_of(splits[1], EVIL, oracle=0.5)], info_of())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    widths = [cells(line) for line in lines]
    for head, width in ((0, 10), (4, 4)):
        assert widths[head] == width
    assert set(widths) == {10, 4, 3, 6}
    assert len(lines) == 4 + 2 + 2 * len(EVIL) + 3 + 3
    assert not re.search(r"<script|<b>|\x1b|\n(lines|two$)|(?<!\\)\[x(?<!\\)\]", text)
    assert r"| &lt;script&gt;alert(1)&lt;/script&gt; |" in text
    assert r"| a \| b |" in text
    assert "| two lines |" in text
    assert r"\x1b" in text
    assert "(%7C%5B%3Cb%3E-seed0.html)" in text


@given(st.text())
def test_any_name_is_one_cell(name):
    assert cells(f"| {escaped(name)} |") == 1
    assert not re.search(r"[<>\n\x1b]|(?<!\\)[\[\]`*|~]", escaped(name))


@pytest.mark.parametrize(
    "name", ["walk", "sit down (chair)", "pick_up", "55_5", "größer", "a, b-c"]
)
def test_ordinary_names_are_not_changed(name):
    assert escaped(name) == name


def test_a_report_names_a_threshold_without_effect(tmp_path):
    note = "Every sample passed the confidence threshold"
    assert note in write_report(tmp_path, [result_of("s")], info_of("dynapurls"))
    assert note not in write_report(
        tmp_path, [result_of("s", admitted=False)], info_of("dynapurls")
    )
    assert note not in write_report(tmp_path, [result_of("s")], info_of("balanced"))


def test_the_static_method_is_not_compared_with_itself(tmp_path):
    text = write_report(tmp_path, [result_of("s")], info_of("static"))
    assert "Top-1 accuracy in %, mean ± std over seeds." in text
    assert "| split | unseen | clips | seeds x orders | chance | static |\n" in text
    assert "| s | 2 | 2 | 1 x 1 | 50.0 | 100.0 ± 0.0 |\n" in text
    assert "| split | class | static |\n" in text
    assert "| s | a | 100.0 |\n" in text


def test_the_overview_ends_with_the_table_of_splits(tmp_path):
    text = overview(write_report(tmp_path, [result_of("s")], info_of("static")))
    assert text.endswith("| s | 2 | 2 | 1 x 1 | 50.0 | 100.0 ± 0.0 |")


def test_a_report_names_the_method(tmp_path):
    text = write_report(tmp_path, [result_of("s")], info_of())
    assert text.startswith("# utd_mhad: unseen classes, purls (label_free)\n")
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["method"] == "purls (label_free)"
    assert record["adapter"] == "balanced"
    assert record["runs"][0]["methods"]["balanced"]["accuracy_of_each_order"] == [1.0]
    assert record["runs"][0]["methods"]["balanced"]["accuracy_of_each_class"] == {
        "a": 1.0,
        "b": 1.0,
    }


def test_a_report_has_the_diagnosis(tmp_path):
    results = [
        result_of("s", diagnosis={"cosine": 0.9, "ORACLE: 1-NN": 0.5}),
        result_of("s", diagnosis={"cosine": 0.7, "ORACLE: 1-NN": 0.5}, seed=1),
        result_of("t", diagnosis={"cosine": 0.25, "ORACLE: 1-NN": 1.0}),
    ]
    text = write_report(tmp_path, results, info_of())
    assert "| measure | s | t |" in text
    assert "the entropy is 1 if attention is uniform" in text
    assert "| cosine | 0.800 ± 0.141 | 0.250 ± 0.000 |" in text
    assert "| ORACLE: 1-NN | 0.500 ± 0.000 | 1.000 ± 0.000 |" in text
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["runs"][1]["diagnosis"] == {"cosine": 0.7, "ORACLE: 1-NN": 0.5}
    text = write_report(tmp_path, [result_of("s", diagnosis={"ORACLE: 1-NN": 0.5})], info_of())
    assert "| ORACLE: 1-NN | 0.500 ± 0.000 |" in text
    assert "entropy" not in text


@pytest.mark.parametrize(("splits", "panels"), [(("s",), [""]), (("s", "t"), ["s", "t"])])
def test_a_picture_names_each_split_once(tmp_path, monkeypatch, splits, panels):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, title, _: drawn.append((figure, title)))
    write_report(tmp_path, [result_of(split) for split in splits], info_of())
    [(figure, title)] = drawn
    assert [axis.get_title() for axis in figure.axes] == panels
    assert ("s," in title) == (len(splits) == 1)
    plt.close(figure)


@pytest.mark.parametrize("title", ["word " * 60, "walk" * 75])
def test_a_long_title_of_a_picture_is_not_cut_off(tmp_path, title):
    figure, _ = figures.panels(1, (4.0, 4.0))
    figures.save(figure, title, tmp_path / "picture.png")
    figure.draw_without_rendering()
    assert figure._suptitle.get_window_extent().width <= figure.bbox.width


def test_an_oracle_result_is_never_an_accuracy(tmp_path):
    text = write_report(tmp_path, [result_of("s", oracle=0.5)], info_of())
    assert "50.0 ± 0.0 (ORACLE)" in text
    assert "not an accuracy" in text
    assert "| static |" not in text
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["runs"][0]["ORACLE_hit_rate_not_an_accuracy"] == 0.5
    assert record["runs"][0]["methods"] == {}


def test_results_are_grouped_by_split():
    results = [result_of("a"), result_of("b"), result_of("a")]
    assert {split: len(group) for split, group in by_split(results).items()} == {"a": 2, "b": 1}
