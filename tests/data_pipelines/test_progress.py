"""Progress and log lines, on standard error."""

import pytest

from data_pipelines import progress as progress_module
from data_pipelines.logs import log, set_verbosity
from data_pipelines.progress import counted, progress


@pytest.fixture(autouse=True)
def default_verbosity():
    """The level that other tests find."""
    yield
    set_verbosity()


def test_a_log_has_the_last_round_and_others_after_a_while(monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "LOG_EVERY", -1)
    with progress("working", 4, first=2) as report:
        report(3, loss=0.5)
        report(4, loss=0.25)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "  working: resuming after 2 of 4"
    assert lines[1].startswith("  working: 3/4, 0 s, loss 0.500, about ")
    assert lines[-1] == "  working: 4/4, 0 s, loss 0.250"


def test_items_are_counted(capsys):
    assert list(counted("reading", range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == "  reading: 3/3, 0 s\n"
    assert list(counted("reading", [])) == []
    assert capsys.readouterr().err == ""


def test_quiet_leaves_warnings(capsys):
    set_verbosity(quiet=True)
    assert list(counted("reading", range(3))) == [0, 1, 2]
    log.info("read")
    log.warning("one is damaged")
    assert capsys.readouterr().err == "one is damaged\n"


def test_quiet_and_verbose_exclude_each_other():
    with pytest.raises(ValueError, match="expected one of --quiet and --verbose, got both"):
        set_verbosity(quiet=True, verbose=True)
