"""Parts by their import paths, and the example of docs/refinement.md in every command."""

import json
import re
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipelines import stored
from data_pipelines.animation import SKELETON, animate
from data_pipelines.formats.clip_archive import archive_of_clips, write_archive
from data_pipelines.sketches import parse_sketch
from dynapurls_jax import export
from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.registry import ADAPTERS, make_method
from dynapurls_jax.config import check_config, default_config, restored_config
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.registry import chosen_settings, plain
from dynapurls_jax.zero_shot.base import Candidates
from dynapurls_jax.zero_shot.registry import METHODS
from tests.conftest import ROOT
from tests.helpers.commands import run

PARTS = """
from dataclasses import dataclass

from dynapurls_jax.encoders.base import EncoderEntry
from dynapurls_jax.encoders.kinematics import Kinematics, KinematicsSettings
from dynapurls_jax.registry import NoSettings
from dynapurls_jax.zero_shot import ridge
from dynapurls_jax.zero_shot.base import MethodEntry


@dataclass(frozen=True)
class Settings:
    components: int = 9

    def __post_init__(self):
        if self.components > 99:
            raise ValueError("components: expected 99 or less")


def small_ridge(settings, shapes):
    return ridge.ENTRY.make(ridge.RidgeSettings(components=settings.components), shapes)


def statistics(settings, skeleton):
    return Kinematics(KinematicsSettings(), skeleton)


RIDGE = MethodEntry(small_ridge, Settings, trained=False)
STATISTICS = EncoderEntry(statistics, NoSettings, trained=False)
"""
RIDGE, RIDGE_KEY = "own_package.parts:RIDGE", "own_package/parts:RIDGE"
BALANCE = "my_method:ENTRY"
SPLIT = "random-3_2-0"


def example():
    """The complete method of docs/refinement.md."""
    text = (ROOT / "docs" / "refinement.md").read_text("utf-8")
    return re.search(r"`my_method.py`, complete:\n\n```python\n(.*?)```", text, re.DOTALL)[1]


def write_modules(folder):
    """The user's modules in a folder."""
    (folder / "own_package").mkdir()
    (folder / "own_package" / "parts.py").write_text(PARTS)
    (folder / "my_method.py").write_text(example())
    (folder / "broken.py").write_text("import not_installed\n")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's modules, importable during a test."""
    write_modules(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("own_package.parts", "own_package", "my_method"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("registry", "name", "message"),
    [
        (ADAPTERS, "my_metod:ENTRY", r"adapter 'my_metod:ENTRY': no module my_metod: expected one"),
        (METHODS, "own_package.part:RIDGE", r"no module own_package\.part: expected"),
        (ADAPTERS, "my_method:ENTRI", r"unknown adapter of module my_method 'ENTRI'; .*'ENTRY'"),
        (ADAPTERS, "my_method:balance", "expected a TestTimeEntry, got a function"),
        (ADAPTERS, RIDGE, "expected a TestTimeEntry, got a MethodEntry"),
        (METHODS, BALANCE, "method 'my_method:ENTRY': expected a MethodEntry, got a TestTime"),
        (ENCODERS, RIDGE, "expected a EncoderEntry, got a MethodEntry"),
        (ADAPTERS, "my_method:", "adapter: expected a name or module:attribute, got 'my_method:'"),
        (ADAPTERS, "./my_method.py:ENTRY", "expected a name or module:attribute, got"),
    ],
)
def test_a_path_that_leads_to_no_entry_is_an_error(registry, name, message):
    with pytest.raises(ValueError, match=message):
        registry.entry(name)


@pytest.mark.usefixtures("own")
def test_what_a_module_lacks_is_named_itself():
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        ADAPTERS.entry("broken:ENTRY")


@pytest.mark.usefixtures("own")
def test_settings_are_part_of_the_configuration_and_kept():
    config = default_config()
    config.method.name, config.adapter.name = RIDGE, BALANCE
    with config.unlocked():
        config.adapter[BALANCE] = {"count": 3.0}
    check_config(config)
    assert chosen_settings(config.method).to_dict() == {"components": 9}
    assert config.method[RIDGE_KEY].components == 9
    assert METHODS.settings(config.method).components == 9
    assert ADAPTERS.settings(config.adapter).count == 3.0
    assert config.is_locked
    values = json.loads(json.dumps(plain(config, *config)))
    assert restored_config(values) == config
    config.method[RIDGE_KEY].components = 100
    with pytest.raises(ValueError, match=f"method.{RIDGE_KEY}: components: expected 99 or less"):
        check_config(config)


@pytest.mark.usefixtures("own")
def test_a_setting_that_does_not_exist_is_refused():
    config = default_config()
    config.adapter.name = BALANCE
    with config.unlocked():
        config.adapter[BALANCE] = {"cuont": 3.0}
    with pytest.raises(ValueError, match=f"adapter.{BALANCE}: .* argument 'cuont'"):
        check_config(config)


@pytest.mark.usefixtures("own")
def test_the_example_balances_its_answers_and_ignores_samples_that_are_not_finite():
    model = SimpleNamespace(score=lambda variables, features, candidates: features, embedding=None)
    section = ConfigDict({"name": BALANCE})
    features = jnp.array([[0.1, 0.0], [0.1, 0.0], [jnp.nan, 0.0], [0.1, 0.0]])
    adapter = adapter_of(make_method(section, model, {}, StreamInfo.of(features)))
    state, found = run_stream(adapter, adapter.init(Candidates(jnp.zeros((2, 1, 3)))), features)
    np.testing.assert_array_equal(found.label, [0, 0, -1, 0])
    np.testing.assert_allclose(state.inner_state.sum(), 2 * 20.0 + 3, rtol=1e-6)
    assert (np.diff(found.confidence[jnp.array([0, 1, 3])]) < 0).all()


SKETCHES = {
    "wave": {"right hand": "hang > (head out > head near)*2 > hang"},
    "raise both hands": {"both hands": "hang > top > hang"},
    "squat": {"hips": "stand > crouch > stand"},
    "kick": {"right foot": "ground > knee > ground"},
    "clap": {"both hands": "hang > (chest front > chest across near)*2"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The user's modules beside an archive of clips."""
    folder = tmp_path_factory.mktemp("own")
    write_modules(folder)
    clips = [
        animate(parse_sketch(sketch, name, "test"), 16 + 4 * take)[None]
        for name, sketch in SKETCHES.items()
        for take in range(4)
    ]
    archive = archive_of_clips(
        clips,
        labels=np.repeat(np.arange(len(SKETCHES), dtype=np.int32), 4),
        class_names=tuple(SKETCHES),
        joint_names=SKELETON.joints,
        up="z",
    )
    (folder / "clips").mkdir()
    write_archive(folder / "clips" / "own.npz", archive)
    return folder


@pytest.mark.slow
def test_every_command_takes_parts_of_ones_own(folder, monkeypatch):
    def done(*arguments):
        finished = run(*arguments, cwd=folder)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    done(
        "dynapurls_jax.train",
        f"--config={ROOT}/configs/custom.py",
        "--config.data.manual_dir=clips",
        "--config.data.frames=8",
        f"--config.splits=('{SPLIT}',)",
        "--config.text.descriptions=names",
        "--config.text.encoder=hashing",
        "--config.encoder.name=own_package.parts:STATISTICS",
        f"--config.method.name={RIDGE}",
        "--workdir=run",
    )
    saved = stored.read_json(folder / "run" / "config.json")
    assert saved["method"][RIDGE_KEY] == {"components": 9}
    (method,) = (folder / "run").glob("*/*/methods/*")
    assert method.name.startswith("own_package.parts.RIDGE-")

    done("dynapurls_jax.stream_eval", "--workdir=run", "--orders=1", f"--adapter={BALANCE}")
    report = folder / "run" / "report" / "own_package.parts.RIDGE_my_method.ENTRY" / "report.md"
    assert f"| static | {BALANCE} |" in report.read_text("utf-8")

    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    export.main(["model", "--workdir=run", f"--split={SPLIT}", "--out=own.safetensors"])
    flags = ["--clips=clips", "--model=own.safetensors", f"--adapter={BALANCE}"]
    lines = done("dynapurls_jax.predict", *flags).splitlines()
    assert len(lines) == 4 * len(SKETCHES)
    assert {json.loads(line)["action"] for line in lines} <= set(SKETCHES)
