"""Array stores: atomic creation, checked origin, resume after an interruption."""

import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.array_store import ARRAY, RECORD, StaleStoreError, open_or_make, open_store


def test_a_store_is_made_once_and_replaced_for_another_origin(tmp_path, capsys):
    tokens = np.random.default_rng(0).normal(size=(5, 3, 2, 4)).astype(np.float16)
    origin = {"checkpoint": "abc", "config": {"width": 8}}
    store, starts = tmp_path / "store", []

    def chunks(first):
        starts.append(first)
        return [tokens[first:3], tokens[3:]]

    def make(origin=origin, shape=tokens.shape, chunks=chunks):
        return open_or_make(store, origin, shape, np.float16, chunks)

    np.testing.assert_array_equal(make(), tokens)
    np.testing.assert_array_equal(make(), tokens)
    assert starts == [0]  # the second call opened it
    other = origin | {"checkpoint": "new"}
    with pytest.raises(StaleStoreError, match="checkpoint is 'new' now, was 'abc'"):
        open_store(store, other)
    with pytest.raises(StaleStoreError, match="width"):
        open_store(store, origin | {"config": {"width": 16}})
    with pytest.raises(ValueError, match="expected 6 entries, got 5"):
        make(other, (6, 3, 2, 4), lambda first: [tokens[first:]])
    with pytest.raises(ValueError, match=r"entries of \[5, 3, 2, 4\], got \[5, 3, 2, 3\] at 0"):
        make(other, chunks=lambda first: [tokens[..., :3]])
    np.testing.assert_array_equal(make(), tokens)  # a failed write keeps the previous store
    make(other)
    assert "checkpoint is 'new' now, was 'abc'; making it again" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "store.lock"]
    with pytest.raises(FileNotFoundError, match="no complete store"):
        open_store(tmp_path / "other", origin)


def test_an_interrupted_store_is_resumed(tmp_path):
    entries, starts = np.arange(10, dtype=np.float32)[:, None], []

    def chunks(first, stop=10):
        starts.append(first)
        for start in range(first, 10, 2):
            if start >= stop:
                raise KeyboardInterrupt
            yield entries[start : start + 2]

    def make(version, chunks=chunks):
        return open_or_make(tmp_path / "store", {"version": version}, (10, 1), np.float32, chunks)

    for stop in (4, 8):
        with pytest.raises(KeyboardInterrupt):
            make(1, lambda first, stop=stop: chunks(first, stop))
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path / "store", {"version": 1})
    np.testing.assert_array_equal(make(1), entries)
    assert starts == [0, 4, 8]
    with pytest.raises(KeyboardInterrupt):
        make(2, lambda first: chunks(first, 4))
    make(3)  # the part of another array is not used
    assert starts[3:] == [0, 0]


KILLED = """
import os, pathlib, signal, sys, numpy
from data_pipelines import array_store
array_store.SAVE_EVERY = 0

def chunks(first):
    for start in range(first, 8, 2):
        if start == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        yield numpy.arange(start, start + 2, dtype=numpy.float32)[:, None]

array_store.open_or_make(pathlib.Path(sys.argv[1]), {}, (8, 1), numpy.float32, chunks)
"""


def test_a_killed_process_leaves_a_part_that_is_resumed(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "store")])
    assert killed.returncode == -signal.SIGKILL
    starts = []

    def rest(first):
        starts.append(first)
        return [np.arange(first, 8, dtype=np.float32)[:, None]]

    array = open_or_make(tmp_path / "store", {}, (8, 1), np.float32, rest)
    np.testing.assert_array_equal(array[:, 0], np.arange(8))
    assert starts == [6]


FULL = """
import os, pathlib, sys, numpy
from data_pipelines import array_store

def full(*_):
    raise OSError(28, os.strerror(28))

store = pathlib.Path(sys.argv[1]) / "store"
entries = numpy.ones((4, 2), numpy.float32)
array_store.open_or_make(store, {"version": 1}, (4, 2), numpy.float32, lambda first: [entries])
os.posix_fallocate = full
try:
    array_store.open_or_make(store, {"version": 2}, (9, 2), numpy.float32, lambda first: [])
except OSError as error:
    print(error)
print(array_store.open_store(store, {"version": 1}).sum())
"""


def test_a_full_disk_is_an_error_before_the_work_and_the_store_stays(tmp_path):
    call = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert re.search(
        r"array\.bin: no space left on device, \S+ [kM]B are free, 0\.\d kB", done.stdout
    )
    assert done.stdout.endswith("8.0\n")


def test_two_processes_make_a_store_once(tmp_path):
    code = """
import pathlib, sys, time, numpy
from data_pipelines.array_store import open_or_make

def chunks(first):
    print("making", flush=True)
    time.sleep(1)
    yield numpy.ones((2, 1), numpy.float32)

assert open_or_make(pathlib.Path(sys.argv[1]), {}, (2, 1), numpy.float32, chunks).sum() == 2
"""
    call = [sys.executable, "-c", code, str(tmp_path / "store")]
    both = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    output = "".join(process.communicate(timeout=60)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert output.count("making") == 1
    assert output.count("waiting for another process") <= 1


@pytest.mark.parametrize("damage", ["record", "empty record", "array", "no array", "bit of array"])
def test_a_damaged_store_is_made_again(damage, tmp_path):
    entries = np.ones((4, 1), np.float32)

    def make():
        return open_or_make(tmp_path / "s", {"a": (1, 2)}, (4, 1), np.float32, lambda _: [entries])

    make()
    file = tmp_path / "s" / (ARRAY if "array" in damage else RECORD)
    if damage == "no array":
        file.unlink()
    elif damage == "bit of array":
        content = bytearray(file.read_bytes())
        content[-3] ^= 16
        file.write_bytes(content)
    else:
        file.write_bytes(b"{}" if damage == "empty record" else file.read_bytes()[:9])
    with pytest.raises(StaleStoreError, match="damaged"):
        open_store(tmp_path / "s", {"a": (1, 2)})
    np.testing.assert_array_equal(make(), entries)


def test_a_damaged_part_is_made_again(tmp_path):
    entries = np.ones((4, 1), np.float32)

    def make(chunks):
        return open_or_make(tmp_path / "s", {}, (4, 1), np.float32, chunks)

    def interrupted(first):
        yield entries[:2]
        raise KeyboardInterrupt

    for damaged, content in ((ARRAY, b""), (RECORD, b""), (ARRAY, None)):
        with pytest.raises(KeyboardInterrupt):
            make(interrupted)
        file = tmp_path / "s.part" / damaged
        if content is None:  # one bit of the first entries
            content = bytearray(file.read_bytes())
            content[3] ^= 1
        file.write_bytes(content)
    np.testing.assert_array_equal(make(lambda first: [entries[first:]]), entries)
