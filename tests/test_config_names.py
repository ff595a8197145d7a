"""Configurations by name, and lists of names on a command line."""

from pathlib import Path

import pytest
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from dynapurls_jax.config_errors import file_fault, wrong_override
from dynapurls_jax.config_names import config_file, config_names, typed
from tests.conftest import ROOT


def test_names_are_the_files_of_the_project():
    assert config_names() == tuple(sorted(f.stem for f in (ROOT / "configs").glob("*.py")))


def test_a_name_or_a_file_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "configs/demo.py", str(ROOT / "configs" / "demo.py")):
        assert Path(config_file(name)) == ROOT / "configs" / "demo.py"
    assert config_file("paper:utd_mhad") == f"{ROOT / 'configs' / 'paper.py'}:utd_mhad"
    Path("demo").write_text("mine")
    assert config_file("demo") == "demo"
    with pytest.raises(ValueError, match="did you mean 'utd_mhad'"):
        config_file("utd_mahd")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("22_5", ("22_5",)),
        ("22_5,18_9", ("22_5", "18_9")),
        ("22_5, pseudo-22_5-0", ("22_5", "pseudo-22_5-0")),
        ("('22_5',)", ("22_5",)),
        ("['22_5', \"18_9\"]", ("22_5", "18_9")),
        ("'22_5'", ("22_5",)),
        ("()", ()),
    ],
)
def test_lists_of_names_need_no_quotes(text, names):
    assert typed([f"--config.splits={text}"]) == [f"--config.splits={names!r}"]


def test_other_arguments_stay_as_they_are():
    arguments = ["--workdir=runs/x", "--config.seeds=(0,1)", "--config.name=a,b", "demo"]
    assert typed(arguments) == arguments
    demo = str(ROOT / "configs" / "demo.py")
    assert typed(["--config", "demo"]) == ["--config", demo]
    assert typed(["--config=demo"]) == [f"--config={demo}"]


def test_lists_of_names_may_follow_their_option():
    assert typed(["--config.splits", "22_5"]) == ["--config.splits", "('22_5',)"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--config.method.nmae=ridge",
            "unknown key of --config.method: 'nmae'; did you mean 'name'? Known: cada_vae, ",
        ),
        ("--config.zzzz=1", "unknown key of --config: 'zzzz'. Known: adapter, augment, data, "),
        ("--config.data=demo", "--config.data is a section: expected --config.data.KEY, one of "),
        ("--config.name.x=3", "--config.name.x: --config.name is no section, it has no keys"),
        (
            "--config.pretrain.epochs=1.5",
            "--config.pretrain.epochs: expected a whole number, got '1.5'",
        ),
        (
            "--config.fit.learning_rate=x",
            "--config.fit.learning_rate: expected a number, got 'x'",
        ),
    ],
)
def test_a_wrong_override_is_named_with_its_whole_key(argument, message):
    error = wrong_override(["--workdir=x", argument])
    assert str(error).startswith(message)


def test_right_overrides_are_no_errors():
    right = ["--config=demo", "--config.splits=22_5", "--config.fit.epochs=3", "--config.name=a"]
    assert wrong_override(right) is None


LOCKED = """
from dynapurls_jax.config import default_config
def get_config():
    config = default_config()
    config.pretrain.{line}
"""


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello world", "x.py, line 1: SyntaxError: invalid syntax"),
        ("import nosuch", "x.py, line 1: ModuleNotFoundError: No module named 'nosuch'"),
        ("x = 1", "x.py: expected a function get_config(), found none"),
        (
            LOCKED.format(line="epoch = 3"),
            'x.py, line 5: AttributeError: Key "epoch" does not exist and cannot be added since '
            'the config is locked. Did you mean "epochs" instead of "epoch"?',
        ),
        (
            LOCKED.format(line="epochs = 'three'"),
            "x.py, line 5: TypeError: Could not override field 'epochs' (reference). three is of ",
        ),
    ],
)
def test_an_error_in_a_configuration_is_named_with_its_line(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.py").write_text(text)
    with pytest.raises(Exception) as raised:
        ConfigFileFlagParser("config").parse("x.py")
    assert file_fault(raised.value, "x.py").startswith(message)
    assert not file_fault(ValueError("from elsewhere"), "x.py")
