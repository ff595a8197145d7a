"""Atomic file writes, and locks between processes."""

import pickle
import subprocess
import sys

import pytest

from data_pipelines.atomic import FullDiskError, full_disk_named, replacing, write_text
from data_pipelines.locks import one_at_a_time, remove_leftovers


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


def test_what_killed_processes_leave_is_removed(tmp_path):
    kept = tmp_path / "run" / "checkpoints" / "3" / "data"
    left = tmp_path / "run" / "checkpoints" / "4.orbax-checkpoint-tmp" / "d.orbax-checkpoint-tmp"
    for folder in (kept.parent, left):
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(b"x")
    (tmp_path / "stage.json.0a1b.tmp").write_bytes(b"{")
    remove_leftovers(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]
    assert not left.parent.exists()


def test_a_full_disk_in_another_process_is_the_same_error(tmp_path):
    error = FullDiskError(tmp_path / "x", "5.0 MB")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is FullDiskError
    assert "5.0 MB are needed" in str(again)
    with (
        pytest.raises(FullDiskError, match=r"x: no space left .* more than 0\.3 MB are needed"),
        full_disk_named(tmp_path / "x", lambda: 300_000),
    ):
        raise RuntimeError("write() failed: No space left on device; at byte 9")
