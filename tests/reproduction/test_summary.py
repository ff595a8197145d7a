"""The values of the summary, computed by hand."""

import pytest

from dynapurls_jax.config import default_config
from dynapurls_jax.reproduction.summary import (
    mean_of,
    split_table,
    summarise,
    summary_jobs,
    summary_table,
)

SEEDS = 2


def config():
    """A configuration with a published split and three random splits of one size."""
    config = default_config().unlock()
    config.splits = ("5_2", "random-4_3-0", "random-4_3-1", "random-4_3-2")
    return config


def record(job) -> dict:
    """Synthetic accuracies of two orders, by model, stream and split."""
    overrides = dict(job.overrides)
    static = {"ridge": 0.2, None: 0.5, "purls": 0.3}[overrides.get("method.name")]
    static += 0.1 * job.split.startswith("random") + 0.06 * job.seed
    gain = {"shuffled": 0.2, "blocked": 0.1, "skewed": -0.1}[overrides["eval.stream"]]
    return {"results": {"static": [static, static], "refined": [static + gain, static - 0.02]}}


@pytest.fixture
def summary():
    jobs = summary_jobs(config(), SEEDS)
    found = summarise(config(), SEEDS, {job: record(job) for job in jobs})
    return {"datasets": {"one": found, "two": found}, "mean": mean_of({"one": found, "two": found})}


def test_only_the_papers_model_has_jobs_for_each_seed():
    jobs = summary_jobs(config(), SEEDS)
    assert len(jobs) == len(set(jobs)) == 3 * (4 + 4 + 5)  # random splits are used instead of seeds
    paper = [dict(job.overrides) for job in jobs if "shift_gcn" in str(job)]
    assert {changes["adapter.name"] for changes in paper} == {"dynapurls"}
    assert {changes["method.purls.head"] for changes in paper} == {"row"}


def test_figures_are_means_over_orders_runs_and_splits(summary):
    found = summary["datasets"]["one"]
    assert found["splits"]["5_2"]["static"] == pytest.approx(50)
    assert found["splits"]["random-4_3"]["static"] == pytest.approx(60)
    assert found["closed_form"] == pytest.approx(25)
    assert found["static"] == pytest.approx(55)
    assert found["refined"] == pytest.approx(55 + 9)
    assert found["dynapurls_paper"] == pytest.approx((30 + 3 + 40) / 2 + 9)  # seeds 0 and 1
    assert found["hurt_share"] == 50  # the second order of each
    assert found["uneven"]["skewed"]["refined"] == pytest.approx(55 - 6)
    assert found["uneven"]["skewed"]["hurt_share"] == 100
    assert summary["mean"]["static"] == found["static"]


def test_tables_have_a_line_for_each_dataset_and_split(summary):
    table = summary_table(summary).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| one", "| two", "| mean"]
    assert len({line.count("|") for line in table}) == 1
    lines = split_table(summary).splitlines()
    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
