"""README.md and docs hold what scripts/write_docs.py writes, and links that lead somewhere."""

import re

import pytest

from data_pipelines.errors import DataError
from dynapurls_jax.reproduction.catalogue import rates_of, table
from dynapurls_jax.serving.pretrained import pretrained_names
from scripts import write_docs
from tests.conftest import ROOT

README = ROOT / "README.md"


def test_documents_are_as_written():
    for file, text in write_docs.documents().items():
        assert file.read_text("utf-8") == text, f"{file}: run python scripts/write_docs.py"


def test_every_pretrained_model_has_its_commands():
    assert set(write_docs.TRAINED_BY) == set(pretrained_names())


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README.read_text("utf-8"))
    assert len(links) > 30
    missing = {link for link in links if not (ROOT / link).exists()}
    assert not missing


def test_readme_can_be_read():
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_a_document_without_markers_is_refused(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("<!-- part -->\nold\n")
    with pytest.raises(DataError, match="expected <!-- part --> and <!-- /part -->"):
        write_docs.filled(file, {"part": "new\n"})
    file.write_text("before <!-- part -->\nold\n<!-- /part --> after")
    expected = "before <!-- part -->\nnew\n<!-- /part --> after"
    assert write_docs.filled(file, {"part": "new\n"}) == expected


def test_a_table_aligns_accuracies():
    assert table(["a", "b, %"], [["x", "1"]]) == "| a | b, % |\n|---|--:|\n| x | 1 |\n"


def test_rates_are_means_over_splits():
    (page, *_) = write_docs.published_pages()["10"]
    assert page.dataset == "utd_mhad"
    cells = [cell for cell in page.cells if (cell.row, cell.column) == ("static", "ZSL")]
    assert rates_of(page)["static"] == pytest.approx(sum(cell.mean for cell in cells) / len(cells))
