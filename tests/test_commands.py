"""The two commands as users type them."""

import json
import os
import subprocess
import sys

import pytest

from data_pipelines.errors import DataError
from dynapurls_jax.config import default_config, plain
from dynapurls_jax.stream_eval import load_config
from tests.conftest import ROOT

DEMO = f"--config={ROOT}/configs/demo.py"
TINY = [
    "--config.data.frames=8",
    "--config.encoder.width=4",
    "--config.pretrain.epochs=1",
    "--config.pretrain.batch_size=64",
    "--config.alignment.epochs=2",
    "--config.alignment.hidden=16",
    "--config.alignment.attention=8",
]


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_train_then_stream_eval(tmp_path):
    trained = run("dynapurls_jax.train", DEMO, *TINY, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "960 SYNTHETIC clips" in trained.stdout
    assert "next: python -m dynapurls_jax.stream_eval --workdir=runs/demo" in trained.stdout
    evaluated = run("dynapurls_jax.stream_eval", "--orders=2", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "SYNTHETIC data" in evaluated.stdout
    assert "| random-40_8-0 | 8 | 80 | 1 x 2 | 12.5 |" in evaluated.stdout
    report = tmp_path / "runs" / "demo" / "report" / "label_free_balanced"
    assert sorted(p.name for p in report.iterdir()) == [
        "random-40_8-0-seed0",
        "random-40_8-0-seed0.html",
        "report.json",
        "report.md",
        "running_accuracy.png",
    ]
    assert sorted(p.name for p in (report / "random-40_8-0-seed0").iterdir()) == [
        "attention.png",
        "classes.png",
        "confusion.png",
        "reliability.png",
        "running_accuracy.png",
        "tsne.png",
        "tsne_stages.png",
    ]
    page = (report / "random-40_8-0-seed0.html").read_text("utf-8")
    assert page.count("data:image/png;base64") == 7
    assert "SYNTHETIC clips by forward kinematics" in page
    other = run("dynapurls_jax.stream_eval", "--query=per_candidate", cwd=tmp_path)
    assert other.returncode == 2
    assert "--config.alignment.query=per_candidate" in other.stderr
    refused = run("dynapurls_jax.train", DEMO, *TINY, "--config.data.frames=12", cwd=tmp_path)
    assert refused.returncode == 2
    assert "data.frames: it has 8, asked for 12" in refused.stderr
    wrong = run("dynapurls_jax.stream_eval", "--split=random-40_8-1", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "this workdir, which has random-40_8-0" in wrong.stderr
    wrong = run("dynapurls_jax.stream_eval", "--adapter=dynapurl", cwd=tmp_path)
    assert "did you mean 'dynapurls'" in wrong.stderr
    ungated = run("dynapurls_jax.stream_eval", "--gzsl", "--gate=energy", cwd=tmp_path)
    assert ungated.returncode == 2
    both = "--config.splits=('random-40_8-0', 'pseudo-random-40_8-0-0')"
    assert both.replace("=", '="') + '"' in ungated.stderr
    pseudo = run("dynapurls_jax.train", DEMO, *TINY, both, cwd=tmp_path)
    assert pseudo.returncode == 0, pseudo.stderr
    arguments = ["--gzsl", "--gate=energy", "--orders=1", "--adapter=static"]
    gated = run("dynapurls_jax.stream_eval", *arguments, cwd=tmp_path)
    assert gated.returncode == 0, gated.stderr
    assert "| random-40_8-0 | 40 + 8 | " in gated.stdout
    assert "| 1 x 1 | energy | Full |" in gated.stdout
    report = tmp_path / "runs" / "demo" / "report" / "gzsl_label_free_static_energy"
    assert {p.name for p in report.iterdir()} == {"report.json", "report.md", "gate_roc.png"}
    several = run("dynapurls_jax.stream_eval", "--input=-", "--split=a,b", cwd=tmp_path)
    assert "--input answers one stream: expected one --split" in several.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dynapurls_jax.train"], "--config"),
        (["dynapurls_jax.train", DEMO, "demo"], "unexpected arguments: demo"),
        (["dynapurls_jax.train", "--config=none.py"], "none.py"),
        (
            ["dynapurls_jax.train", DEMO, "--config.alignment.qurey=x"],
            'Did you mean "query"',
        ),
        (
            ["dynapurls_jax.train", DEMO, "--config.data.name=utd_mad"],
            "did you mean 'utd_mhad'",
        ),
        (
            ["dynapurls_jax.train", DEMO, "--config.alignment.query=labelfree"],
            "unknown alignment.query 'labelfree'; did you mean 'label_free'",
        ),
        (["dynapurls_jax.train", DEMO, "--config.data.frames=30"], "a multiple of 4, got 30"),
        (
            ["dynapurls_jax.train", f"--config={ROOT}/configs/ntu60.py"],
            "nturgbd_skeletons_s001_to_s017.zip",
        ),
        (["dynapurls_jax.stream_eval", "--workdir=/nowhere"], "/nowhere is no workdir"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments, message, tmp_path):
    result = run(*arguments, cwd=tmp_path, DYNAPURLS_DATA=str(tmp_path))
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists()


def test_no_workdir_says_how_to_make_one(tmp_path):
    result = run("dynapurls_jax.stream_eval", cwd=tmp_path)
    assert result.returncode == 2
    assert "train --config=configs/demo.py" in result.stderr


@pytest.mark.parametrize("command", ["train", "stream_eval"])
def test_help_teaches(command, tmp_path):
    result = run(f"dynapurls_jax.{command}", "--help", cwd=tmp_path)
    assert f"python -m dynapurls_jax.{command}" in result.stdout
    assert "--workdir" in result.stdout


def test_importing_the_package_starts_no_device():
    check = (
        "import dynapurls_jax, dynapurls_jax.adaptation, jax;"
        "from jax._src import xla_bridge as bridge;"
        "assert not bridge.backends_are_initialized()"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_workdir_of_another_version_is_read_or_refused(tmp_path):
    config = default_config()
    config.data.name = "demo"
    values = plain(config, *config)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({key: part for key, part in values.items() if key != "tda"}))
    assert load_config(tmp_path) == config  # settings that came since have their defaults
    file.write_text(json.dumps(values | {"gone": 1}))
    with pytest.raises(DataError, match=r"config.json: .*\"gone\" does not exist.*; train again"):
        load_config(tmp_path)


HELP = """
import atexit, runpy, sys
atexit.register(lambda: print("jax is", "there" if "jax" in sys.modules else "not there"))
module, sys.argv[1] = sys.argv[1], "--help"
runpy.run_module(module, run_name="__main__")
"""


@pytest.mark.parametrize("module", ["train", "stream_eval", "text.describe"])
def test_help_does_not_wait_for_jax(module):
    """Importing it takes seconds; all else of the help takes less than one."""
    call = [sys.executable, "-c", HELP, f"dynapurls_jax.{module}"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "--" in done.stdout
    assert done.stdout.endswith("jax is not there\n")
