"""Records of a stage on a full disk."""

import errno
import os
import time
from pathlib import Path

import pytest

from data_pipelines.atomic import FullDiskError, write_text
from dynapurls_jax.training.metrics import FILE, Metrics, json_lines


def test_a_record_without_room_is_an_error_with_its_file(tmp_path):
    metrics = Metrics(tmp_path, 0)
    metrics.write(1, {"loss": 2.0, "val_accuracy": None})
    metrics._file.close()
    with Path("/dev/full").open("a") as full:
        metrics._file = full
        with pytest.raises(FullDiskError, match=r"/dev/full: no space left on device, \S+ MB are"):
            metrics.write(2, {"loss": 1.0})
        metrics.close()  # again without an error
    assert list(json_lines(tmp_path / FILE)) == [{"step": 1, "loss": 2.0}]


def test_tensorboard_reads_the_files_of_a_stage_in_their_order_whatever_the_clock(
    tmp_path, monkeypatch
):
    for number, seconds in enumerate((2e9, 1e9, 1e9)):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        metrics = Metrics(tmp_path, number)
        metrics.write(number + 1, {"loss": 1.0})
        metrics.close()
    names = sorted(file.name for file in (tmp_path / "tensorboard").iterdir())
    assert [int(name.split(".")[1]) for name in names] == [0, 1, 2]
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'\xff\n[1]\n{"step": "3"}\n{"ste')  # damaged lines
    Metrics(tmp_path, 3).close()
    assert [line["step"] for line in json_lines(tmp_path / FILE)] == [1, 2, 3]


def test_a_file_without_room_stays_as_it_was(tmp_path, monkeypatch):
    write_text(tmp_path / "x.json", "before")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = r"x\.json: no space left .* are free, 0\.0 kB are needed\. Make room .*_CACHE"
    with pytest.raises(FullDiskError, match=message):
        write_text(tmp_path / "x.json", "after")
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").read_text() == "before"
