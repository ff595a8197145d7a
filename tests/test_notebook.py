"""The Colab notebook: from top to bottom on the demo corpus, and what it lets pip do."""

import io
import re
import subprocess
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.test_commands import TINY

NOTEBOOK = ROOT / "scripts" / "colab_tpu.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def source(notebook, name, **parameters):
    """The code of a cell, with other values for the names that it sets."""
    text = next(cell.source for cell in notebook.cells if cell.id == name)
    for key, value in parameters.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", lambda _, v=value, k=key: f"{k} = {v!r}", text)
        assert count == 1
    return text


def shown(cell, kind):
    """What an executed cell shows of a kind such as text/markdown; "stream" is what it prints."""
    if kind == "stream":
        return "".join(out.text for out in cell.outputs if out.output_type == "stream")
    return "\n".join(out.data[kind] for out in cell.outputs if kind in out.get("data", {}))


def test_it_is_committed_as_it_is_run(notebook):
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_all_cells_run_on_the_demo(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # everything is installed: nothing is fetched
    cells = {cell.id: cell for cell in notebook.cells}
    cells["parameters"].source = source(
        notebook, "parameters", PROJECT=str(ROOT), TRAIN_FLAGS=TINY, EVAL_FLAGS=["--orders=2"]
    )
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=place).execute()  # a failed cell is an error
    assert f"installed already: {ROOT}" in shown(cells["install"], "stream")
    assert f"'jax': '{metadata.version('jax')}'" in shown(cells["install"], "stream")
    picked = shown(cells["detect"], "text/markdown")
    assert "| device | CPU |" in picked
    assert "bfloat16" not in picked
    assert "| picked | `--config.alignment.batch_size=64` |" in picked
    assert "960 SYNTHETIC clips" in shown(cells["data"], "stream")
    workdir = tmp_path / "work" / "runs" / "demo"
    assert f"trained: {workdir}" in shown(cells["train"], "stream")
    assert f"report: {workdir}" in shown(cells["evaluate"], "stream")
    assert "| random-40_8-0 | 8 | 80 | 1 x 2 |" in shown(cells["report"], "text/markdown")
    assert shown(cells["report"], "image/png")
    assert "random-40_8-0-seed0.html" in shown(cells["report"], "stream")
    assert '<iframe srcdoc="&lt;!doctype html' in shown(cells["report"], "text/html")


def test_devices_pick_precision_and_batches(notebook):
    function = re.search(r"(?ms)^def pick.*?return picked\n", source(notebook, "detect")).group()
    names = {}
    exec(function, names)
    batches = {"pretrain.batch_size": 20, "alignment.batch_size": 64}

    def pick(device, capability=0.0, devices=1):
        found = {"device": device, "capability": capability, "devices": devices}
        return names["pick"](found | {"batches": batches})

    half = "--config.encoder.dtype=bfloat16"
    assert half not in pick("CPU")
    assert half not in pick("GPU", 7.5)
    assert half in pick("GPU", 8.0)
    assert pick("TPU", devices=8) == [
        half,
        "--config.pretrain.batch_size=24",
        "--config.alignment.batch_size=64",
    ]


def install(notebook, monkeypatch, pip, **parameters):
    """Runs the install cell with a stand-in for pip, which gets the command."""

    class Process:
        returncode = 0

        def __init__(self, command, **_):
            pip(command)
            self.stdout = io.StringIO("")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setenv("PYTHONUNBUFFERED", "")  # the cell sets it: afterwards it is as before
    names = {}
    exec(source(notebook, "parameters", **parameters), names)
    exec(source(notebook, "install"), names)


def other_project(folder):
    """A folder of the project that is not the one that is installed."""
    (folder / "dynapurls_jax").mkdir()
    (folder / "dynapurls_jax" / "train.py").touch()
    return str(folder)


def test_pip_must_keep_the_jax_that_is_there(notebook, tmp_path, monkeypatch):
    asked = []

    def pip(command):
        asked.append(command)
        if "--constraint" in command:
            asked.append(Path(command[command.index("--constraint") + 1]).read_text())

    install(notebook, monkeypatch, pip, PROJECT=other_project(tmp_path))
    assert asked[0][-2:] == ("--editable", str(tmp_path))
    there = [f"{name}=={metadata.version(name)}" for name in ("jax", "jaxlib", "numpy")]
    assert asked[1].splitlines() == there


def test_a_jax_that_pip_changed_stops_the_notebook(notebook, tmp_path, monkeypatch):
    version = metadata.version

    def pip(_):
        newer = {"jax": "99.0"}
        monkeypatch.setattr(metadata, "version", lambda name: newer.get(name) or version(name))

    with pytest.raises(RuntimeError, match=r"to stay, got .*'jax': '99.0'"):
        install(notebook, monkeypatch, pip, PROJECT=other_project(tmp_path))


def test_without_a_project_it_says_what_to_set(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"set PROJECT, in the first cell"):
        install(notebook, monkeypatch, print)


def test_the_wheel_forces_no_jax():
    """A runtime's jax, jaxlib and libtpu belong together: any that is new enough is kept."""
    needed = [Requirement(text) for text in metadata.requires("dynapurls-jax")]
    needed = {r.name: r for r in needed if not r.marker or r.marker.evaluate({"extra": ""})}
    assert [bound.operator for bound in needed["jax"].specifier] == [">="]
    assert not needed["jax"].extras
    assert not {"jaxlib", "libtpu"} & needed.keys()
