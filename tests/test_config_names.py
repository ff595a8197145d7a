"""Configurations by name, and lists of names on a command line."""

from pathlib import Path

import pytest

from dynapurls_jax.config_names import config_file, config_names, typed
from dynapurls_jax.flags import message_of
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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("no such thing"), "no such thing"),
        (KeyError("'nmae'\nDid you mean \"name\"?"), "no key 'nmae'. Did you mean \"name\"?"),
        (ValueError("'a' is not 'b'"), "'a' is not 'b'"),
        (ValueError(""), ""),
    ],
)
def test_errors_are_said_in_words(error, words):
    assert message_of(error) == words
