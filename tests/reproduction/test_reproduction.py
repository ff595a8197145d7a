"""The command `dynapurls reproduce`: its records, its flags, and the documents from its results."""

import json

import numpy as np
import pytest

from dynapurls_jax import reproduce
from dynapurls_jax.commands import errors_in_words
from dynapurls_jax.config import choose_paper_model, load_config
from dynapurls_jax.reproduction import plan
from dynapurls_jax.reproduction.jobs import Job, Runner, job_of, jobs_of
from dynapurls_jax.reproduction.layout import EVERY_GRANULARITY
from dynapurls_jax.reproduction.pages import read_page
from dynapurls_jax.reproduction.records import Records
from dynapurls_jax.reproduction.summary import mean_of, summary_table
from dynapurls_jax.reproduction.tables import TABLES
from scripts import write_docs
from tests.conftest import ROOT


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
