"""The lines of the diagnosis of a trained run."""

import re

import pytest

from dynapurls_jax.evaluation.diagnosis import diagnose
from dynapurls_jax.evaluation.tasks import unseen_task
from scripts.studies.diagnose import diagnosis
from tests.helpers.runs import fitted


def figures(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w-])-?\d+\.\d+", line)]


def test_a_run_with_attention_has_every_line(trained):
    run_and_task = trained[1], unseen_task(trained[1])
    lines = diagnosis(trained[1])
    *measures, by_row, seen = lines
    assert measures == [f"{name}: {value:.3f}" for name, value in diagnose(*run_and_task).items()]
    assert len(figures(by_row)) == 8
    assert all(0 <= value <= 100 for value in figures(by_row))
    recorded = trained[1].results["encoder"]["seen_test_accuracy"]
    assert figures(seen)[1] == pytest.approx(100 * recorded, abs=0.05)


def test_a_run_without_attention_has_the_lines_of_its_tokens(trained):
    assert len(diagnosis(fitted(trained[1], "ridge"))) == 3
