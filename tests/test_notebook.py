"""The Colab notebook: all cells on the demo corpus, its keys and imports, its use of pip."""

import ast
import io
import re
import subprocess
from importlib import import_module, metadata
from pathlib import Path

import pytest
from flax.traverse_util import flatten_dict
from packaging.requirements import Requirement

from dynapurls_jax.config import default_config
from tests.conftest import ROOT
from tests.helpers.notebooks import executed, read_tutorial, shown

# An encoder without parameters and a closed form: nothing is trained.
CLOSED_FORM = ["--config.encoder.name=kinematics", "--config.method.name=ridge"]


@pytest.fixture
def notebook():
    return read_tutorial("colab_tpu")[0]


def source(notebook, name, **parameters):
    """The code of a cell, with other values of its parameters."""
    text = next(cell.source for cell in notebook.cells if cell.id == name)
    for key, value in parameters.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", lambda _, v=value, k=key: f"{k} = {v!r}", text)
        assert count == 1
    return text


@pytest.mark.slow
def test_all_cells_run_on_the_demo(notebook, tmp_path, monkeypatch):
    cells = {cell.id: cell for cell in notebook.cells}
    parameters = {"TRAIN_FLAGS": CLOSED_FORM, "EVAL_FLAGS": ["--orders=2"]}
    cells["parameters"].source = source(notebook, "parameters", PROJECT=str(ROOT), **parameters)
    executed(notebook, tmp_path, monkeypatch)
    assert f"installed already: {ROOT}" in shown(cells["install"], "stream")
    assert f"'jax': '{metadata.version('jax')}'" in shown(cells["install"], "stream")
    picked = shown(cells["detect"], "text/markdown")
    assert "| device | CPU |" in picked
    assert "bfloat16" not in picked
    assert "| picked | `--config.fit.batch_size=64` |" in picked
    assert "960 SYNTHETIC clips" in shown(cells["data"], "stream")
    workdir = tmp_path / "work" / "runs" / "demo"
    assert f"trained: {workdir}" in shown(cells["train"], "stream")
    assert f"report: {workdir}" in shown(cells["evaluate"], "stream")
    assert "| random-40_8-0 | 8 | 80 | 1 x 2 |" in shown(cells["report"], "text/markdown")
    assert shown(cells["report"], "image/png")
    assert "random-40_8-0-seed0.html" in shown(cells["report"], "stream")
    assert '<iframe srcdoc="&lt;!doctype html' in shown(cells["report"], "text/html")


@pytest.fixture
def pick(notebook):
    """The function of the notebook that picks flags for a runtime."""
    function = re.search(r"(?ms)^def pick.*?return picked\n", source(notebook, "detect")).group()
    names = {}
    exec(function, names)

    def picked(device, capability=0.0, devices=1):
        batches = {"pretrain.batch_size": 20, "fit.batch_size": 64}
        found = {"device": device, "capability": capability, "devices": devices}
        return names["pick"](found | {"batches": batches})

    return picked


def test_devices_pick_precision_and_batches(pick):
    half = "--config.encoder.shift_gcn.dtype=bfloat16"
    assert half not in pick("CPU")
    assert half not in pick("GPU", 7.5)
    assert half in pick("GPU", 8.0)
    assert pick("TPU", devices=8) == [
        half,
        "--config.pretrain.batch_size=24",
        "--config.fit.batch_size=64",
    ]


def flat(config):
    """Values by dotted keys."""
    return flatten_dict(config.to_dict(), sep=".")


def test_picked_flags_are_keys_of_the_configuration(pick):
    for flag in pick("TPU"):
        key, value = flag.removeprefix("--config.").split("=")
        config = default_config()
        value = int(value) if value.isdecimal() else value
        config.update_from_flattened_dict({key: value})  # raises for unknown keys and other types
        before, after = flat(default_config()), flat(config)
        assert {name for name in after if after[name] != before[name]} <= {key}
        assert after[key] == value


@pytest.mark.parametrize(("cell", "name"), [("detect", "PROBE"), ("data", "READ")])
def test_the_imports_of_the_scripts_exist(notebook, cell, name):
    """The scripts run in processes of their own, so only the executed notebook would fail."""
    script = re.search(rf'(?ms)^{name} = """(.*?)^"""', source(notebook, cell))[1]
    nodes = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.ImportFrom)]
    assert nodes
    for node in nodes:
        for alias in node.names:
            assert hasattr(import_module(node.module), alias.name)


def install(notebook, monkeypatch, pip, **parameters):
    """Runs the install cell with a stand-in for pip, a function of the command."""

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
    monkeypatch.setenv("PYTHONUNBUFFERED", "")  # restored afterwards
    names = {}
    exec(source(notebook, "parameters", **parameters), names)
    exec(source(notebook, "install"), names)


def other_project(folder):
    """A folder of the project, other than the installed one."""
    (folder / "dynapurls_jax").mkdir()
    (folder / "dynapurls_jax" / "train.py").touch()
    return str(folder)


def test_pip_gets_constraints_on_the_installed_jax(notebook, tmp_path, monkeypatch):
    commands, constraints = [], []

    def pip(command):
        commands.append(command)
        if "--constraint" in command:
            constraints.append(Path(command[command.index("--constraint") + 1]).read_text())

    install(notebook, monkeypatch, pip, PROJECT=other_project(tmp_path))
    assert commands[0][-2:] == ("--editable", str(tmp_path))
    installed = [f"{name}=={metadata.version(name)}" for name in ("jax", "jaxlib", "numpy")]
    assert constraints[0].splitlines() == installed


def test_another_version_of_jax_stops_the_notebook(notebook, tmp_path, monkeypatch):
    version = metadata.version

    def pip(_):
        newer = {"jax": "99.0"}
        monkeypatch.setattr(metadata, "version", lambda name: newer.get(name) or version(name))

    with pytest.raises(RuntimeError, match=r"to stay, got .*'jax': '99.0'"):
        install(notebook, monkeypatch, pip, PROJECT=other_project(tmp_path))


def test_an_error_names_the_parameter_of_the_project(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"set PROJECT, in the first cell"):
        install(notebook, monkeypatch, print)


def test_the_wheel_forces_no_jax():
    """A runtime's jax, jaxlib and libtpu belong together: any new enough version stays."""
    every = [Requirement(text) for text in metadata.requires("dynapurls-jax")]
    required = {r.name: r for r in every if not r.marker or r.marker.evaluate({"extra": ""})}
    assert [bound.operator for bound in required["jax"].specifier] == [">="]
    assert not required["jax"].extras
    assert not {"jaxlib", "libtpu"} & required.keys()
