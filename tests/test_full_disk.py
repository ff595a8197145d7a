"""A real small file system that fills up: one message each time, then the same call goes on."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.helpers.custom_folder import write_folder

CODE = """
import os, shutil, sys
from pathlib import Path
import numpy as np
from data_pipelines.datasets import load_corpus
from data_pipelines.prepared import prepare
from data_pipelines.settings import DataSettings
from dynapurls_jax.commands import errors_in_words
from dynapurls_jax.flags import USER_ERRORS
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.metrics import Metrics

disk, ballast = Path(sys.argv[1]), Path(sys.argv[1]) / "ballast"
os.environ["DYNAPURLS_CACHE"] = str(disk / "cache")

def corpus():
    return load_corpus(DataSettings("custom", sys.argv[2]))

def clips():
    assert prepare(corpus(), 64, "pad").clips[-1].any()

def checkpoint():
    Checkpoints(disk / "checkpoints").save(2, np.random.default_rng(0).normal(size=200_000))

def metrics():
    records = Metrics(disk, 0)
    for step in range(1000):
        records.write(step, {"loss": 1.0})
    records.close()

for free, work in ((1e5, corpus), (5e5, corpus), (4e5, clips), (5e5, checkpoint), (3e4, metrics)):
    if work is corpus:
        shutil.rmtree(disk / "cache", ignore_errors=True)
    with ballast.open("wb") as file:
        file.write(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize - int(free)))
    try:
        with errors_in_words(USER_ERRORS):
            work()
        raise AssertionError(work)
    except SystemExit:
        ballast.unlink()
    work()
"""
MOUNTED = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'  # seen by this process alone


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_the_same_call_goes_on(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c", MOUNTED, str(disk)]
    if subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no file system of a test")
    call = [*mounted, sys.executable, "-c", CODE, str(disk), str(write_folder(tmp_path / "clips"))]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    files = r"part-\w+\.zip", r"custom_gym/[\d.]+", "array.bin", "checkpoints/2", "metrics.jsonl"
    room = r": no space left on device, \d+\.\d [kM]B are free"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(files), errors
    for error, file in zip(errors, files, strict=True):
        assert re.search(file + room, error), error
    assert all(re.search(r"(more than )?\d+\.\d [kM]B are needed", error) for error in errors)
    assert "the last intact one" not in errors[3]
