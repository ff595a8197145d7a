"""The paper's tables: overrides, jobs, pages and documents from records."""

import csv
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax import reproduce
from dynapurls_jax.adaptation.api import Prompt
from dynapurls_jax.commands import errors_in_words
from dynapurls_jax.config import choose_paper_model, load_config
from dynapurls_jax.evaluation import tasks
from dynapurls_jax.evaluation.evaluate import evaluate_run
from dynapurls_jax.evaluation.figures import plot_sensitivity
from dynapurls_jax.reproduction import jobs as jobs_module
from dynapurls_jax.reproduction import plan
from dynapurls_jax.reproduction.jobs import (
    Job,
    Runner,
    changed,
    group_of,
    job_of,
    jobs_of,
    possible,
    runs_of,
)
from dynapurls_jax.reproduction.kinds import ENCODER_KINDS, KINDS
from dynapurls_jax.reproduction.layout import EVERY_GRANULARITY, overrides_of
from dynapurls_jax.reproduction.pages import (
    Page,
    cells_of,
    markdown,
    read_page,
    table_csv,
    write_page,
)
from dynapurls_jax.reproduction.paper import FIGURES, paper_figure
from dynapurls_jax.reproduction.records import Records
from dynapurls_jax.reproduction.summary import mean_of, summary_table
from dynapurls_jax.reproduction.tables import TABLES, table_of
from dynapurls_jax.reproduction.work import do_jobs, work_of
from scripts import write_docs
from tests.conftest import ROOT
from tests.helpers.trained import SPLIT, load_small, small_config, small_inputs

ABOUT = {"commit": "abc123", "device": "some cpu"}


def page_of(name, cells, dataset="ntu60", **changes):
    """A page with some cells."""
    page = Page(
        name=name,
        title=TABLES[name].title,
        note=TABLES[name].note,
        dataset=dataset,
        synthetic=False,
        orders=5,
        commits=["abc"],
        devices=["cpu"],
        command="the command",
        cells=cells,
    )
    return page._replace(**changes)


def filled(tmp_path, name, config, seeds):
    """Records with synthetic results for every job of a table, which depend on the seed."""
    records = Records(tmp_path / "records.jsonl", lambda job: {"corpus": "x"}, ABOUT)
    for job in jobs_of(TABLES[name], config, seeds):
        picks = {
            row.pick + column.pick
            for row in TABLES[name].rows
            for column in TABLES[name].columns
            if column.kind == job.kind
        }
        value = 0.1 * (1 + job.seed)
        records.add(job, {pick: [value - 0.05, value + 0.05] for pick in picks})
    return records


def value_of(config, key):
    """The value of a key such as "method.purls.partition"."""
    for name in key.split("."):
        config = config[name]
    return config


@pytest.mark.parametrize("name", TABLES)
def test_every_override_is_a_key_of_the_configuration(name):
    config = load_config(ROOT / "configs" / "utd_mhad.py")
    for row in TABLES[name].rows:
        for column in TABLES[name].columns:
            overrides = overrides_of(row, column) or {}
            new = changed(config, overrides)
            for key, value in overrides.items():
                assert value_of(new, key) == value
            assert column.kind in KINDS | ENCODER_KINDS


def test_all_results_of_the_paper_have_a_cell():
    for name, row, column in FIGURES:
        assert row in {r.name for r in TABLES[name].rows}
        assert column in {c.name for c in TABLES[name].columns}
    assert paper_figure("ntu120", "10", "dynapurls", "ZSL", "96_24") == 69.11
    assert paper_figure("ntu60", "10", "dynapurls", "ZSL", "96_24") is None
    assert paper_figure("utd_mhad", "10", "dynapurls", "ZSL", "22_5") is None
    assert paper_figure("ntu120", "3", "sa_dvae", "H", "96_24") == 44.50
    assert paper_figure("utd_mhad", "3", "devise", "ZSL", "18_9") == 13.59
    assert paper_figure("pku_mmd", "4", "smie", "ZSL", "random-46_5") == 60.83
    assert paper_figure("pku_mmd", "4", "smie", "H", "random-46_5") is None
    assert paper_figure("ntu60", "5", "posec3d", "Ours", "48_12") == 41.60
    assert paper_figure("ntu120", "5", "posec3d", "Ours", "96_24") is None


def test_harmonic_means_of_table_3_agree_with_its_accuracies():
    """Checks the copied values; the paper rounds some of them."""
    rows = {row for table, row, column in FIGURES if (table, column) == ("3", "H")}
    for row in rows - {"smie"}:  # which has no generalised accuracy
        s, u, h = (np.array(FIGURES["3", row, side]) for side in "SUH")
        np.testing.assert_allclose(2 * s * u / (s + u), h, atol=0.3)


def test_harmonic_means_of_table_9_agree_with_its_accuracies():
    """Checks the copied values, up to rounding and means over runs."""
    for row in ("Baseline", "Partial", "Full"):
        s, u, h = (np.array(FIGURES["9", f"dynapurls, {row}", side]) for side in "SUH")
        np.testing.assert_allclose(2 * s * u / (s + u), h, atol=0.3)


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


def test_records_survive_a_kill_and_other_configurations(tmp_path):
    file = tmp_path / "records.jsonl"

    def sources(job):
        return {"corpus": "x"}

    one, two = job_of("zsl", "a", 0, {"x": 1}), job_of("zsl", "a", 1, {})
    Records(file, sources, {"commit": "first"}).add(one, {"accuracy": [0.5]})
    with file.open("a") as truncated:
        truncated.write('{"results": {}}\n{"sources": {"corpus": "x"}}\n{"job": {"kind": "zs')
    records = Records(file, sources, {"commit": "second"})
    assert records.get(one)["results"] == {"accuracy": [0.5]}
    assert records.get(two) is None
    records.add(two, {"accuracy": [0.25]})
    again = Records(file, sources, {})
    assert [again.get(job)["commit"] for job in (one, two)] == ["first", "second"]
    assert Records(file, lambda job: {"corpus": "y"}, {}).get(one) is None


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


@pytest.mark.parametrize("name", TABLES)
def test_a_page_is_equal_in_all_formats(name, tmp_path):
    config = load_config(ROOT / "configs" / "ntu60.py")
    records = filled(tmp_path, name, config, 2)
    cells, commits, devices = cells_of(name, TABLES[name], config, 2, records)
    assert (commits, devices) == (["abc123"], ["some cpu"])
    rows, table = len(TABLES[name].rows), TABLES[name]
    expected = [overrides_of(row, column) for row in table.rows for column in table.columns]
    page = page_of(name, cells, commits=commits)
    missing = sum(one is None or not possible(config, one) for one in expected)
    assert len(cells) == 2 * (len(expected) - missing)
    for cell in cells:
        factor = 1 if cell.column == "samples/ms" else 100
        np.testing.assert_allclose(cell.values, [0.1 * factor, 0.2 * factor])
        assert cell.mean == pytest.approx(0.15 * factor)
        assert cell.std == pytest.approx(np.std([0.1, 0.2], ddof=1) * factor)
    text = markdown(page)
    body = [line for line in text.splitlines() if line.startswith("| 55_5") or "| 48_12" in line]
    assert len(body) == 2 * rows
    assert ("as printed there" in text) == (name not in ("texts", "adapters", "fig7", "streams"))
    assert "abc123" in text
    paths = write_page(page, tmp_path / "out")
    assert [path.suffix for path in paths] == [".md", ".csv", ".json"]
    assert markdown(read_page(paths[2])) == text
    lines = list(csv.DictReader(io.StringIO(paths[1].read_text("utf-8"))))
    assert [float(line["mean"]) for line in lines] == [cell.mean for cell in cells]
    assert table_csv(page) == paths[1].read_text("utf-8")


def test_missing_cells_are_dashes_and_other_datasets_have_no_paper_column(tmp_path):
    config = load_config(ROOT / "configs" / "utd_mhad.py")
    choose_paper_model(config)
    config.text.encoder = "hashing"
    records = filled(tmp_path, "10", config, 1)
    cells, *_ = cells_of("10", TABLES["10"], config, 1, records)
    text = markdown(page_of("10", cells, "utd_mhad"))
    assert "| tpt |" not in text  # needs a text tower
    assert "paper" not in text
    del records._records[next(iter(records._records))]
    cells, *_ = cells_of("10", TABLES["10"], config, 1, records)
    assert " - |" in markdown(page_of("10", cells, "utd_mhad"))


def test_sensitivity_is_drawn(tmp_path):
    config = load_config(ROOT / "configs" / "utd_mhad.py")
    records = filled(tmp_path, "fig7", config, 2)
    cells, *_ = cells_of("fig7", TABLES["fig7"], config, 2, records)
    plot_sensitivity(cells, "title", tmp_path / "fig7.png")
    assert (tmp_path / "fig7.png").stat().st_size > 5000


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
    runner, records = (
        Runner(config, tmp_path),
        Records(tmp_path / "records.jsonl", lambda job: {}, ABOUT),
    )
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


def test_the_command_resumes_after_a_stop(monkeypatch, tmp_path, capsys):
    """The second call runs only the missing jobs and writes complete pages."""
    done, stop_at = [], [4]

    class Counting(Runner):
        def __init__(self, config, workdir, seeds):
            workdir.mkdir(parents=True, exist_ok=True)

        def sources(self, job):
            return {}

        def __call__(self, job: Job):
            if len(done) == stop_at[0]:
                raise KeyboardInterrupt
            done.append(job)
            names = ("accuracy", *"SUH", "ORACLE", "ORACLE H", EVERY_GRANULARITY)
            return {name: [0.5, 0.25] for name in names}

    monkeypatch.setattr(plan, "Runner", Counting)
    arguments = ["--table", "3", "6", "--dataset", "nw_ucla", "--seeds", "1"]
    arguments += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    with pytest.raises(KeyboardInterrupt):
        reproduce.main(arguments)
    assert not (tmp_path / "out").exists()
    stop_at[0] = None
    reproduce.main(arguments)
    out, err = capsys.readouterr()
    assert "min left" in err
    assert out.endswith(f"next: dynapurls stream --workdir={tmp_path / 'runs' / 'nw_ucla'}\n")
    config = load_config(ROOT / "configs" / "nw_ucla.py")
    choose_paper_model(config)
    expected = {job for name in "36" for job in jobs_of(TABLES[name], config, 1)}
    assert len(done) == len(expected)
    assert set(done) == expected
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"table{name}_nw_ucla.{suffix}" for name in "36" for suffix in ("csv", "json", "md")
    ]
    page = read_page(tmp_path / "out" / "table3_nw_ucla.json")
    assert {cell.column for cell in page.cells} == {c.name for c in TABLES["3"].columns}
    assert "--table 3 --dataset nw_ucla --seeds 1" in page.command
    reproduce.main(arguments)
    assert "0 jobs to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --table N, --all, --quick or --summary"),
        (["--quick", "--table", "3"], "expected no other choices"),
        (["--table", "3", "--dataset", "pku_mmd_2"], "invalid choice: 'pku_mmd_2'"),
        (["--table", "2"], "unknown table '2'"),
        (["--table", "6", "--descriptions", "a.json"], "expected --table 5 with it"),
        (["--table", "5", "--descriptions", "a.json"], "found no file a.json"),
    ],
)
def test_wrong_flags_are_explained(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended, errors_in_words((ValueError, FileNotFoundError)):
        reproduce.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_documents_are_generated_from_the_json():
    """README.md and two pages of docs/ have the content of the files in docs/results."""
    pages = write_docs.published_pages()
    assert [page.dataset for page in pages["6"]] == list(write_docs.DATASETS)
    summary = json.loads((write_docs.PUBLISHED / "summary.json").read_text("utf-8"))
    assert summary["mean"] == mean_of(summary["datasets"])
    assert not any("dirty" in commit for commit in summary["commits"])
    assert summary_table(summary) in (ROOT / "README.md").read_text("utf-8")
    docs = ROOT / "docs"
    assert write_docs.results() in (docs / "results.md").read_text("utf-8")
    assert write_docs.paper_tables() in (docs / "studies" / "paper_tables.md").read_text("utf-8")
    methods = (docs / "studies" / "zero_shot_methods.md").read_text("utf-8")
    assert write_docs.comparison() in methods
    assert "ORACLE" in methods
    for page in (page for group in pages.values() for page in group):
        for cell in page.cells:
            assert cell.mean == pytest.approx(np.mean(cell.values))
            assert not any("dirty" in commit for commit in page.commits)


def test_synthetic_data_are_marked():
    assert "SYNTHETIC" in markdown(page_of("3", [], "demo", synthetic=True))
