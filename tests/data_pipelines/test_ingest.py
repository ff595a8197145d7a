"""Reading a whole source: order, all cores, resume, interruption."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines import ingest as module
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.ingest import ingest
from tests.conftest import ROOT
from tests.helpers.counting_source import CountingSource


def _read(source, folder, skip_bad=False):
    return list(ingest(source, folder, "reading", skip_bad))


@pytest.mark.parametrize("parallel", [False, True])
def test_clips_are_in_order_with_one_and_with_several_processes(tmp_path, parallel, monkeypatch):
    monkeypatch.setattr(module, "num_cores", lambda: 2)
    source = CountingSource(tmp_path / "trace", 13, parallel=parallel)
    clips = _read(source, tmp_path / "parts")
    assert [clip.clip_id for clip in clips] == [f"clip{i}" for i in range(13)]
    for number, clip in enumerate(clips):
        assert clip.joints.shape == (1 + number % 2, 2 + number, 3, 3)
        assert (clip.joints == number + 1).all()
        assert (clip.label, clip.subject) == (number, 1)
    readers = {line.split()[1] for line in (tmp_path / "trace").read_text().splitlines()}
    assert (str(os.getpid()) in readers) is not parallel


@pytest.mark.slow
def test_a_script_without_a_main_guard_reads_on_all_cores(tmp_path):
    guarded = SLOW.replace("0.1", "0")
    script = tmp_path / "script.py"
    script.write_text(guarded.replace('if __name__ == "__main__":', "if True:"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(tmp_path), "2"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split()[-1] == "12"


def test_parts_are_parsed_again_only_after_a_change(tmp_path):
    trace = tmp_path / "trace"
    source = CountingSource(trace, 40, parallel=False)
    _read(source, tmp_path / "parts")
    assert len(trace.read_text().splitlines()) == 40
    _read(source, tmp_path / "parts")
    assert len(trace.read_text().splitlines()) == 40
    parts = sorted((tmp_path / "parts").glob("part-*"))
    assert len(parts) > 2
    parts[0].unlink()  # as after an interrupted run
    parts[1].write_bytes(parts[1].read_bytes()[:-100])  # as after a power failure
    assert len(_read(source, tmp_path / "parts")) == 40
    again = trace.read_text().splitlines()[40:]
    assert 2 <= len(again) < 40
    source.version = "2"
    _read(source, tmp_path / "parts")
    assert len(trace.read_text().splitlines()) == 80 + len(again)


def test_a_changed_identity_of_the_reader_reads_again(tmp_path):
    source = CountingSource(tmp_path / "trace", 7, parallel=False)
    _read(source, tmp_path / "parts")
    source.meaning = "centimetres"
    _read(source, tmp_path / "parts")
    assert len((tmp_path / "trace").read_text().splitlines()) == 14


def test_a_removed_file_changes_few_parts(tmp_path):
    source = CountingSource(tmp_path / "trace", 300, parallel=False, chunk=10)
    _read(source, tmp_path / "parts")
    source.left_out = 150
    assert len(_read(source, tmp_path / "parts")) == 299
    assert len((tmp_path / "trace").read_text().splitlines()) - 300 <= 40


def test_an_unexpected_error_of_one_file_is_listed_with_its_name(tmp_path):
    source = CountingSource(tmp_path / "trace", 5, strange=2, parallel=False)
    with pytest.raises(BadFilesError, match=r"2: cannot be read \(ZeroDivisionError"):
        _read(source, tmp_path / "parts")


def test_all_bad_files_are_listed_after_all_files(tmp_path):
    source = CountingSource(tmp_path / "trace", 8, bad=(1, 6), parallel=False)
    with pytest.raises(BadFilesError, match="2 of 8 files") as error:
        _read(source, tmp_path / "parts")
    assert "file1, line 7: expected better" in str(error.value)
    assert "file6, line 7: expected better" in str(error.value)
    assert "skip_bad=True" in str(error.value)
    clips = _read(source, tmp_path / "parts", skip_bad=True)
    assert [clip.label for clip in clips] == [0, 2, 3, 4, 5, 7]
    assert [clip.notes.get("files that cannot be read, skipped") for clip in clips][:2] == [2, None]
    assert len((tmp_path / "trace").read_text().splitlines()) == 8
    listed = (tmp_path / "parts.bad.txt").read_text().splitlines()
    assert listed == ["file1, line 7: expected better", "file6, line 7: expected better"]
    many = BadFilesError([f"file{i}: bad" for i in range(30)], 90, "x")
    assert "... and 10 more" in str(many)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(DataError, match="found none"):
        _read(CountingSource(tmp_path / "trace", 0), tmp_path / "parts")


SLOW = """
import signal, sys, time
from pathlib import Path
from data_pipelines import ingest as module
from tests.helpers.counting_source import CountingSource

class Slow(CountingSource):
    def read(self, item):
        time.sleep(0.1)
        return super().read(item)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent may ignore it
    module.num_cores = lambda: int(sys.argv[2])
    folder = Path(sys.argv[1])
    source = Slow(folder / "trace", 12, chunk=1)
    print(len(list(module.ingest(source, folder / "parts", "reading", False))))
"""


@pytest.mark.parametrize("cores", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_ctrl_c_keeps_finished_parts(tmp_path, cores):
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    arguments = [sys.executable, str(script), str(tmp_path), cores]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE)
    trace = tmp_path / "trace"
    while not trace.exists() or len(trace.read_text().splitlines()) < 3:
        time.sleep(0.02)
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode != 0
    assert b"KeyboardInterrupt" in errors
    done = len(list((tmp_path / "parts").glob("part-*.zip")))
    assert 2 <= done < 12
    again = subprocess.run(arguments, env=environment, capture_output=True, check=True, text=True)
    assert again.stdout.split()[-1] == "12"
    read = [line.split()[0] for line in trace.read_text().splitlines()]
    assert len(read) <= 12 + int(cores)  # each process repeats at most one item
    assert set(read) == {str(i) for i in range(12)}


@pytest.mark.slow
def test_workers_exit_with_their_parent(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW.replace("0.1", "0.5"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(tmp_path), "2"]
    trace, workers = tmp_path / "trace", set()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as running:
        while len(workers) < 2:
            time.sleep(0.02)
            lines = trace.read_text().splitlines() if trace.exists() else []
            workers = {int(line.split()[1]) for line in lines if " " in line}
        running.kill()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        time.sleep(0.05)
        assert time.monotonic() < end


def test_sources_can_be_sent_to_other_processes(tmp_path):
    source = CountingSource(tmp_path / "trace", 3)
    assert pickle.loads(pickle.dumps(source)) == source
