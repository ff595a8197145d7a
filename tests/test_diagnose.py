"""The diagnosis of a trained run, and its figures on made-up arrays."""

import re

import numpy as np
import pytest

from scripts.studies.diagnose import diagnosis, mean_cosine
from tests.helpers.runs import fitted


def figures(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w-])-?\d+\.\d+", line)]


def test_the_mean_cosine_is_that_of_pairs_of_rows():
    same = np.ones((3, 4, 2)) / np.sqrt(2)
    assert mean_cosine(same) == pytest.approx(1)
    assert mean_cosine(np.eye(4)[None]) == pytest.approx(0)


def test_a_run_with_attention_has_every_line(trained):
    lines = diagnosis(trained[1])
    assert len(lines) == 7
    projected, text, entropy, by_row, nearest, means, seen = lines
    assert all(-1 <= value <= 1 for line in (projected, text) for value in figures(line))
    assert len(figures(entropy)) == len(figures(by_row)) == 8
    assert all(0 < value <= 1.001 for value in figures(entropy))
    assert all(line.startswith("ORACLE") for line in (nearest, means))
    recorded = trained[1].results["encoder"]["seen_test_accuracy"]
    assert figures(seen)[1] == pytest.approx(100 * recorded, abs=0.05)


def test_a_run_without_attention_has_the_lines_of_its_tokens(trained):
    assert len(diagnosis(fitted(trained[1], "ridge"))) == 3
