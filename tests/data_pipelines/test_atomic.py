"""Atomic file writes, and locks between processes."""

import subprocess
import sys

import pytest

from data_pipelines.atomic import replacing, write_text
from data_pipelines.locks import one_at_a_time


def test_an_error_keeps_the_previous_file_and_leaves_no_temporary_file(tmp_path):
    file = tmp_path / "x.json"
    write_text(file, "ä")

    def interrupted():
        with replacing(file) as new:
            new.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text("utf-8") == "ä"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_use_two_temporary_files(tmp_path):
    file = tmp_path / "x"
    with replacing(file) as first:
        first.write(b"first")
        write_text(file, "second")
        assert file.read_text() == "second"
    assert file.read_text() == "first"


def test_a_lock_waits_for_another_process_and_prints_a_line(tmp_path):
    code = "import pathlib, sys\nfrom data_pipelines.locks import one_at_a_time\n"
    code += "with one_at_a_time(pathlib.Path(sys.argv[1])):\n    print('inside')"
    with one_at_a_time(tmp_path / "a" / "lock"):
        command = [sys.executable, "-c", code, str(tmp_path / "a" / "lock")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        waiting = subprocess.Popen(command, **pipes, text=True)
        assert "waiting for another process that holds" in waiting.stderr.readline()
    assert waiting.communicate(timeout=60)[0] == "inside\n"
    assert waiting.returncode == 0
