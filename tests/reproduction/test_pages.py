"""Pages of the tables: equal in all formats, with the published figures."""

import csv
import io

import numpy as np
import pytest

from dynapurls_jax.config import choose_paper_model, load_config
from dynapurls_jax.evaluation.figures import plot_sensitivity
from dynapurls_jax.reproduction.jobs import jobs_of, possible
from dynapurls_jax.reproduction.layout import overrides_of
from dynapurls_jax.reproduction.pages import (
    Page,
    cells_of,
    markdown,
    read_page,
    table_csv,
    write_page,
)
from dynapurls_jax.reproduction.records import Records
from dynapurls_jax.reproduction.tables import TABLES
from tests.conftest import ROOT

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


def test_synthetic_data_are_marked():
    assert "SYNTHETIC" in markdown(page_of("3", [], "demo", synthetic=True))
