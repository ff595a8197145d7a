"""Log lines of inputs that are left out."""

from data_pipelines.logs import warn_left_out


def test_of_many_bad_inputs_the_first_are_named(capsys):
    warn_left_out([f"clip{n}: no motion" for n in range(30)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "left out: clip0: no motion"
    assert lines[-1] == "left out: 20 more"
    assert len(lines) == 11
