"""Jobs of the tables: which there are, and how they run on a trained run."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.api import Prompt
from dynapurls_jax.config import choose_paper_model, load_config
from dynapurls_jax.evaluation import tasks
from dynapurls_jax.evaluation.evaluate import evaluate_run
from dynapurls_jax.reproduction import jobs as jobs_module
from dynapurls_jax.reproduction.jobs import Runner, changed, group_of, job_of, jobs_of, runs_of
from dynapurls_jax.reproduction.layout import EVERY_GRANULARITY, overrides_of
from dynapurls_jax.reproduction.pages import cells_of
from dynapurls_jax.reproduction.records import Records
from dynapurls_jax.reproduction.tables import TABLES, table_of
from dynapurls_jax.reproduction.work import do_jobs, work_of
from tests.conftest import ROOT
from tests.helpers.trained import SPLIT, load_small, small_config, small_inputs


def test_random_splits_are_used_instead_of_seeds():
    config = small_config()
    config.splits = ("random-6_2-0", "random-6_2-1", "5_3")
    runs = runs_of(config, 2)
    assert runs == [("random-6_2-0", 0), ("random-6_2-1", 0), ("5_3", 0), ("5_3", 1)]
    assert [group_of(split) for split, _ in runs] == ["random-6_2", "random-6_2", "5_3", "5_3"]
    config.splits = ("random-6_2-0",)
    assert runs_of(config, 2) == [("random-6_2-0", 0), ("random-6_2-0", 1)]


def test_tables_share_jobs_and_tpt_needs_a_text_tower():
    config = load_config(ROOT / "configs" / "utd_mhad.py")
    choose_paper_model(config)
    six, seven = (set(jobs_of(TABLES[name], config, 1)) for name in ("6", "7"))
    shared = ("method.purls.granularities", "global")
    assert any(shared in job.overrides for job in six & seven)
    assert len(jobs_of(TABLES["9"], config, 1)) == 3 * 2  # splits x methods: rows share them
    ten = jobs_of(TABLES["10"], config, 1)
    tpt = [job for job in ten if ("adapter.name", "tpt") in job.overrides]
    assert len(tpt) == 3 * 2
    config.text.encoder = "hashing"
    assert not set(tpt) & set(jobs_of(TABLES["10"], config, 1))


def test_methods_without_vectors_have_the_adapters_that_work_on_scores():
    config = load_config(ROOT / "configs" / "utd_mhad.py")
    jobs = jobs_of(TABLES["adapters"], config, 1)
    adapters = {
        name: {dict(job.overrides)["adapter.name"] for job in jobs if named(job) == name}
        for name in ("smie", "devise")
    }
    assert adapters["smie"] == {"static", "centred_scores"} < adapters["devise"]


def named(job):
    """The zero-shot method of a job."""
    return dict(job.overrides)["method.name"]


@pytest.fixture
def runner(trained_workdir, monkeypatch):
    """A runner on the small corpus, with a copy of the small trained workdir."""
    monkeypatch.setattr(jobs_module, "read_inputs", small_inputs)
    return Runner(small_config(), trained_workdir)


def test_jobs_use_the_trained_run_of_the_workdir(runner, trained_workdir):
    before = set(trained_workdir.rglob("stage.json"))
    static = runner(job_of("zsl", SPLIT, 0, {"adapter.name": "static"}))
    assert set(static) == {"accuracy", EVERY_GRANULARITY, "chance"}
    assert static["chance"] == [0.5]
    refined = runner(job_of("zsl", SPLIT, 0, {"adapter.name": "dynapurls"}))
    assert len(refined["accuracy"]) == 2
    assert set(trained_workdir.rglob("stage.json")) == before
    assert {path.parents[1].name for path in before} == {"encoders", "folds", "methods"}


def test_sources_are_the_dependencies_of_results(runner, trained_workdir):
    job, config = job_of("zsl", "a", 0, {"method.name": "devise"}), small_config()
    sources = runner.sources(job)

    def sources_with(overrides):
        return Runner(changed(config, overrides), trained_workdir).sources(job)

    same = {"data.manual_dir": "/elsewhere", "splits": ("a",), "seeds": (5,)}
    assert sources_with(same) == sources
    assert sources_with({"fit.epochs": 99}) != sources
    assert sources_with({"method.devise.granularities": "all"}) != sources
    assert sources_with({"encoder.shift_gcn.width": 16}) != sources
    other = {"method.smie.hidden": 8, "encoder.posec3d.width": 8}
    assert sources_with(other) == sources, "settings of parts that the job does not use"


def test_sources_have_the_texts_and_words_of_the_job(tmp_path, monkeypatch):
    """Results are not reused after a change of a job's descriptions, or of its verbs."""
    read = []

    def read_inputs(config):
        read.append(config.text.descriptions)
        return replace(small_inputs(config), text_digest=f"{read[-1]} {len(read)}")

    monkeypatch.setattr(jobs_module, "read_inputs", read_inputs)
    file = tmp_path / "mine.json"

    def sources(method, verb="lift"):
        file.write_text(json.dumps({"classes": {"class 0": {"verb": verb}}}))
        own = {"method.name": method, "text.descriptions": str(file)}
        return Runner(small_config(), tmp_path).sources(job_of("zsl", "a", 0, own))

    first, second = sources("jpose"), sources("jpose", "throw")
    assert [first["texts"], second["texts"]] == [f"{file} 1", f"{file} 2"]
    assert first["words"] != second["words"]
    assert "words" not in sources("devise")


def test_table_5_has_a_row_for_other_descriptions():
    assert table_of("5") == TABLES["5"]
    rows = table_of("5", "my/gpt3.json").rows
    assert [row.name for row in rows[:2]] == ["shift_gcn", "shift_gcn, gpt3"]
    config = load_config(ROOT / "configs" / "utd_mhad.py")
    overrides = [overrides_of(rows[1], column) for column in TABLES["5"].columns]
    texts = [changed(config, one).text.descriptions for one in overrides]
    assert texts == ["names", "my/gpt3.json", "my/gpt3.json"]


@pytest.mark.slow
def test_table_5_on_a_small_corpus(tmp_path, monkeypatch):
    """Both encoders are trained once for all columns."""
    monkeypatch.setattr(jobs_module, "read_inputs", small_inputs)
    config = small_config()
    config.encoder.posec3d.update(frames=4, size=16, width=2, blocks=(1, 1, 1))
    config.pretrain.epochs = config.fit.epochs = 1
    runner, about = Runner(config, tmp_path), {"commit": "abc123", "device": "some cpu"}
    records = Records(tmp_path / "records.jsonl", lambda job: {}, about)
    jobs = jobs_of(TABLES["5"], config, 1)
    do_jobs(jobs, runner, records, work_of(jobs, "small", records))
    cells, *_ = cells_of("5", TABLES["5"], config, 1, records)
    assert len(cells) == len(TABLES["5"].rows) * len(TABLES["5"].columns)
    assert all(0 <= cell.mean <= 100 for cell in cells)
    trained = [path.parents[1].name for path in tmp_path.rglob("stage.json")]
    assert trained.count("encoders") == len(TABLES["5"].rows)
    assert trained.count("methods") == 2 * len(TABLES["5"].rows)


@pytest.mark.slow
def test_jobs_of_every_kind_on_a_trained_run(runner, trained_workdir):
    static = runner(job_of("zsl", SPLIT, 0, {"adapter.name": "static"}))
    refined = runner(job_of("zsl", SPLIT, 0, {"adapter.name": "dynapurls"}))["accuracy"]
    result = evaluate_run(load_small(trained_workdir))
    assert refined == pytest.approx(result.accuracies("dynapurls"))
    assert static["accuracy"] == pytest.approx(result.accuracies("static")[:1])
    speed = runner(job_of("throughput", SPLIT, 0, {"adapter.name": "tda"}))["samples/ms"]
    assert speed[0] > 0
    gated = runner(job_of("gzsl", SPLIT, 0, {"adapter.name": "dynapurls"}))
    assert set(gated) == {
        f"{row} {side}" for row in ("Baseline", "Partial", "Full") for side in "SUH"
    }
    static_gates = runner(job_of("gates", SPLIT, 0, {"adapter.name": "static"}))
    assert set(static_gates) == {*"SUH", "ORACLE H"}
    assert static_gates["ORACLE H"] >= static_gates["H"]  # the best on the test clips
    swept = runner(job_of("sweep", SPLIT, 0, {"adapter.name": "dynapurls"}))
    assert set(swept) == {row.pick for row in TABLES["fig7"].rows}
    assert all(len(values) == 2 for values in swept.values())
    assert swept["threshold 0.1"] == pytest.approx(refined)
    assert swept["capacity 16"] == pytest.approx(refined)
    without = {"adapter.name": "dynapurls", "adapter.dynapurls.capacity": 0}
    assert len(runner(job_of("zsl", SPLIT, 0, without))["accuracy"]) == 2
    oracle = runner(job_of("zsl", SPLIT, 0, {"method.purls.query": "oracle_label"}))
    assert set(oracle) == {"ORACLE"}
    published = {"method.name": "devise", "fit.published_protocol": True, "fit.epochs": 3}
    assert set(runner(job_of("zsl", SPLIT, 0, published))) == {"ORACLE"}
    fixed = {"adapter.name": "static", "method.purls.partition": "static"}
    parts = runner(job_of("zsl", SPLIT, 0, fixed))
    assert set(parts) == {"accuracy", EVERY_GRANULARITY, "chance"}
    methods = (trained_workdir / SPLIT / "seed0" / "methods").iterdir()
    assert len(list(methods)) == 4  # adaptive, ORACLE, static partition and DeViSE


def test_a_prompt_is_made_before_tracing(runner, monkeypatch):
    def prompt(run, class_ids):
        assert list(np.asarray(jnp.ones(1))) == [1]  # fails while tracing, as reading weights does
        return Prompt(lambda candidates: jnp.zeros(()), lambda tuned, candidates: candidates)

    monkeypatch.setattr(tasks, "_tower_prompt", prompt)
    tuned = runner(job_of("zsl", SPLIT, 0, {"adapter.name": "tpt", "adapter.tpt.views": 4}))
    static = runner(job_of("zsl", SPLIT, 0, {"adapter.name": "static"}))
    assert tuned["accuracy"] == pytest.approx(2 * static["accuracy"])
