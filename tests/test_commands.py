"""Commands as users type them."""

import runpy
import subprocess
import sys

import pytest

import dynapurls_jax
from data_pipelines import stored
from data_pipelines.errors import DataError
from dynapurls_jax import command_line
from dynapurls_jax.command_line import COMMANDS
from dynapurls_jax.config import check_config, default_config, load_config
from dynapurls_jax.registry import plain
from dynapurls_jax.workdirs import workdir_config
from tests.conftest import ROOT
from tests.helpers.cases import slow
from tests.helpers.commands import CLOSED_FORM, DEMO, TINY, run

DEMO_SPLIT = "random-40_8-0"
NTU60 = f"--config={ROOT}/configs/ntu60.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "method"),
    [(CLOSED_FORM, "ridge"), slow(TINY, "purls-label_free")],
    ids=["closed form", "trained"],
)
def test_train_then_stream_eval(arguments, method, tmp_path):
    trained = run("dynapurls_jax.train", DEMO, *arguments, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "960 SYNTHETIC clips" in trained.stderr
    assert "next: dynapurls stream --workdir=runs/demo" in trained.stdout
    evaluated = run("dynapurls_jax.stream_eval", "--orders=2", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "SYNTHETIC data" in evaluated.stdout
    assert f"| {DEMO_SPLIT} | 8 | 80 | 1 x 2 | 12.5 |" in evaluated.stdout
    (report,) = (tmp_path / "runs/demo/report").iterdir()
    assert report.name == f"{method}_balanced"
    assert sorted(p.name for p in report.iterdir()) == [
        f"{DEMO_SPLIT}-seed0",
        f"{DEMO_SPLIT}-seed0.html",
        "report.json",
        "report.md",
        "running_accuracy.png",
    ]
    pictures = ["classes.png", "confusion.png", "reliability.png", "running_accuracy.png"]
    pictures += ["tsne.png", "tsne_stages.png"]  # attention is even, or there is none
    assert sorted(p.name for p in (report / f"{DEMO_SPLIT}-seed0").iterdir()) == pictures
    page = (report / f"{DEMO_SPLIT}-seed0.html").read_text("utf-8")
    assert page.count("data:image/png;base64") == len(pictures)
    assert "SYNTHETIC clips by forward kinematics" in page


@pytest.mark.slow
def test_mistakes_after_training_and_generalised_evaluation(tmp_path):
    trained = run("dynapurls_jax.train", DEMO, *TINY, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    other = run("dynapurls_jax.stream_eval", "--query=per_candidate", cwd=tmp_path)
    assert other.returncode == 2
    assert "--config.method.purls.query=per_candidate" in other.stderr
    wrong = run("dynapurls_jax.stream_eval", "--split=random-40_8-1", cwd=tmp_path)
    assert wrong.returncode == 2
    assert f"this workdir, which has {DEMO_SPLIT}" in wrong.stderr
    wrong = run("dynapurls_jax.stream_eval", "--adapter=dynapurl", cwd=tmp_path)
    assert "did you mean 'dynapurls'" in wrong.stderr
    ungated = run("dynapurls_jax.stream_eval", "--gzsl", "--gate=energy", cwd=tmp_path)
    assert ungated.returncode == 2
    both = f"--config.splits={DEMO_SPLIT},pseudo-{DEMO_SPLIT}-0"
    assert both in ungated.stderr
    assert all(option in ungated.stderr for option in TINY[3:])
    pseudo = run("dynapurls_jax.train", DEMO, *TINY, both, cwd=tmp_path)
    assert pseudo.returncode == 0, pseudo.stderr
    arguments = ["--gzsl", "--gate=energy", "--orders=1", "--adapter=static"]
    gated = run("dynapurls_jax.stream_eval", *arguments, cwd=tmp_path)
    assert gated.returncode == 0, gated.stderr
    assert f"| {DEMO_SPLIT} | 40 + 8 | " in gated.stdout
    assert "| 1 x 1 | energy | Full |" in gated.stdout
    report = tmp_path / "runs/demo/report/gzsl_purls-label_free_static_energy"
    assert {p.name for p in report.iterdir()} == {
        *("report.json", "report.md", "gate_roc.png"),
        *(f"{DEMO_SPLIT}-seed0.html", f"{DEMO_SPLIT}-seed0"),
    }
    several = run("dynapurls_jax.stream_eval", "--input=-", "--split=a,b", cwd=tmp_path)
    assert "--input reads one stream: expected one --split" in several.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dynapurls_jax.train"], "expected --config=NAME, one of authors_text, custom, demo, "),
        (
            ["dynapurls_jax.train", "--config=dmeo"],
            "did you mean 'demo'? Known: authors_text, custom, demo, ",
        ),
        (
            ["dynapurls_jax.train", DEMO, "--config.method.nmae=x"],
            "error: unknown key of --config.method: 'nmae'; did you mean 'name'? Known: ",
        ),
        (["dynapurls_jax.stream_eval"], "dynapurls train --config=demo"),
        (["dynapurls_jax.train", "--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        slow(["dynapurls_jax.train", DEMO, "demo"], "unexpected arguments: demo"),
        slow(["dynapurls_jax.train", "--config=none.py"], "none.py"),
        slow(["dynapurls_jax.train", "--config=demo", "--config.splits=5"], "split of demo '5'"),
        slow(["dynapurls_jax.train", DEMO, "--config.data.name=utd_mad"], "mean 'utd_mhad'"),
        slow(["dynapurls_jax.train", NTU60], "nturgbd_skeletons_s001_to_s017.zip"),
        slow(["dynapurls_jax.stream_eval", "--workdir=/nowhere"], "/nowhere is no workdir"),
    ],
)
def test_mistakes_are_errors_without_a_traceback(arguments, message, tmp_path):
    result = run(*arguments, cwd=tmp_path, DYNAPURLS_DATA=str(tmp_path))
    assert result.returncode == 2
    output = result.stdout + result.stderr
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("method.purls.query", "labelfree", "method.purls: unknown query 'labelfree'; did you"),
        ("method.name", "rigde", "unknown method 'rigde'; did you mean 'ridge'"),
        ("encoder.name", "kinematic", "did you mean 'kinematics'"),
        ("encoder.shift_gcn.dtype", "float16", "encoder.shift_gcn: unknown dtype 'float16'"),
        ("adapter.name", "dynapurl", "did you mean 'dynapurls'"),
        ("adapter.balanced.window", 0, "adapter.balanced: window: expected 1 or more, got 0"),
        ("data.frames", 30, "data: frames: expected a multiple of 4, got 30"),
        ("data.temporal_sampling", "resampled", "did you mean 'resample'"),
        ("pretrain.optimizer", "adam", "did you mean 'adamw'"),
        ("fit.epochs", 0, "fit: epochs: expected 1 or more, got 0"),
        ("pretrain.epochs", 0, "pretrain: epochs: expected 1 or more, got 0"),
        ("splits", (), r"splits: expected names, as in --config.splits=22_5,18_9, got \(\)"),
        ("splits", (225,), r"splits: expected names, .* got \(225,\)"),
        ("seeds", (), r"seeds: expected whole numbers, as in --config.seeds=0,1, got \(\)"),
        ("seeds", (1.5,), r"seeds: .* got \(1.5,\)"),
        ("text.encoder", "precomputed", "precomputed: expected the npz file with the text vectors"),
        ("text.encoder", "minilmm", "did you mean 'minilm'"),
        ("eval.stream", "shuffle", "did you mean 'shuffled'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key, value, message):
    config = default_config()
    config.unlock()
    config.update_from_flattened_dict({key: value})
    if key.endswith(".name"):
        section = key.split(".")[0]
        assert config[section].name == value
    elif key.count(".") == 2:
        section, part, _ = key.split(".")
        config[section].name = part
    with pytest.raises(ValueError, match=message):
        check_config(config)


def test_the_papers_model_is_a_configuration_of_every_dataset():
    paper = runpy.run_path(str(ROOT / "configs" / "paper.py"))["get_config"]
    config, other = paper("nw_ucla"), load_config(ROOT / "configs" / "nw_ucla.py")
    check_config(config)
    assert (config.encoder.name, config.method.name) == ("shift_gcn", "purls")
    assert config.method.purls == default_config().method.purls
    assert other.method.purls != config.method.purls  # the repaired one
    assert (config.splits, config.data) == (other.splits, other.data)
    with pytest.raises(ValueError, match=r"configs/paper\.py:nw: expected one of custom, demo, "):
        paper("nw")


def test_the_text_of_a_methods_authors_is_a_configuration():
    authors = runpy.run_path(str(ROOT / "configs" / "authors_text.py"))["get_config"]
    config = authors("revise,nw_ucla")
    check_config(config)
    assert (config.method.name, config.text.descriptions) == ("revise", "names")
    assert set(config.text.template.values()) == {"{}"}
    assert not authors("smie,nw_ucla").text.descriptions  # a sentence
    for names in ("nothing,nw_ucla", "revise,nothing", "revise"):
        with pytest.raises(ValueError, match=r"authors_text\.py:.*expected METHOD,DATASET"):
            authors(names)


def test_a_configuration_that_lacks_a_key_is_refused():
    config = default_config().unlock()
    del config.fit["epochs"]
    with pytest.raises(ValueError, match=r"config lacks fit\.epochs"):
        check_config(config)


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.py")), ids=lambda f: f.stem)
def test_every_shipped_configuration_is_usable(file):
    check_config(load_config(file))


def test_importing_the_package_starts_no_device():
    check = (
        "import dynapurls_jax.training.run, dynapurls_jax.adaptation.api, jax;"
        "from jax._src import xla_bridge as bridge;"
        "assert not bridge.backends_are_initialized()"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_workdir_of_another_version_is_read_or_refused(tmp_path):
    config = default_config()
    values = plain(config, *config)
    file = tmp_path / "config.json"
    stored.write_json(file, {key: part for key, part in values.items() if key != "fit"})
    assert workdir_config(tmp_path) == config  # newer settings have their defaults
    stored.write_json(file, values | {"gone": 1})
    with pytest.raises(DataError, match=r"config.json: .*\"gone\" does not exist.*; train again"):
        workdir_config(tmp_path)


# The help of each file, in a process of its own, and whether it has imported JAX.
HELP = """
import atexit, os, runpy, sys
for file in sys.argv[1:]:
    if child := os.fork():
        print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    sys.argv, sys.path[0] = [file, "--help"], os.path.dirname(file)
    atexit.register(lambda: print("jax", "jax" in sys.modules))
    runpy.run_path(file, run_name="__main__")
"""
MODULES = [f"dynapurls_jax/{command.module.replace('.', '/')}.py" for command in COMMANDS.values()]
SCRIPTS = [
    str(file.relative_to(ROOT))
    for file in sorted((ROOT / "scripts").rglob("*.py"))
    if "PARSER" in (text := file.read_text("utf-8")) or "parser_of" in text
]


@pytest.mark.parametrize("files", [MODULES, slow(SCRIPTS)], ids=["commands", "scripts"])
def test_help_starts_with_the_purpose_and_examples_and_imports_no_jax(files):
    call = [sys.executable, "-c", HELP, *(str(ROOT / file) for file in files)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    *helps, rest = done.stdout.split("jax False\nstatus 0\n")
    assert (len(helps), rest) == (len(files), ""), done.stdout + done.stderr
    for file, text in zip(files, helps, strict=True):
        purpose, examples, *_ = text.split("\n\n")
        assert purpose.endswith(".")
        assert ("  dynapurls " if file in MODULES else f"  python {file}") in examples
        assert "\noptions:\n" in text
        assert "--quiet " in text


def test_a_command_is_run_as_its_module(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(runpy, "run_module", lambda *module, **how: called.append((module, how)))
    monkeypatch.setattr(sys, "argv", ["dynapurls", "stream", "--orders=2"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    command_line.main()
    how = {"run_name": "__main__", "alter_sys": True}
    assert called == [(("dynapurls_jax.stream_eval",), how)]
    assert sys.argv[1:] == ["--orders=2"]
    assert sys.path[0] == str(tmp_path)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_all_commands_are_listed_with_an_example(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dynapurls", *arguments])
    command_line.main()
    printed = capsys.readouterr().out
    assert all(f"dynapurls {name} {COMMANDS[name].example}" in printed for name in COMMANDS)


def test_version_and_unknown_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dynapurls", "--version"])
    command_line.main()
    assert capsys.readouterr().out == f"dynapurls {dynapurls_jax.__version__}\n"
    monkeypatch.setattr(sys, "argv", ["dynapurls", "trian"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    assert "unknown command 'trian'; did you mean 'train'? Known: train, predict" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_quiet_shows_results_alone_and_verbose_shows_tracebacks(tmp_path):
    quiet = run("dynapurls_jax.train", DEMO, *CLOSED_FORM, "--quiet", cwd=tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout == "trained: runs/demo\nnext: dynapurls stream --workdir=runs/demo\n"
    wrong = run("dynapurls_jax.train", DEMO, "--config.splits=5", "--verbose", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "Traceback" in wrong.stderr
    both = run("dynapurls_jax.train", DEMO, "--quiet", "--verbose", cwd=tmp_path)
    assert both.stderr == "error: expected one of --quiet and --verbose, got both\n"
