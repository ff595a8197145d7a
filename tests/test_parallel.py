"""One device, eight, and two processes compute the same training."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT


def start(out: Path, devices: int, *more: str) -> subprocess.Popen:
    """The small case in a process of its own, with so many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    call = [sys.executable, "-m", "tests.parallel_case", str(out), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, env=environment, cwd=ROOT, **pipes)


def finish(process: subprocess.Popen) -> str:
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return out


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """What one device computes, and the folder of its stages."""
    folder = tmp_path_factory.mktemp("one")
    assert "1 processes, 1 devices" in finish(start(folder / "x.npz", 1))
    return folder / "x", dict(np.load(folder / "x.npz"))


def losses(folder: Path, stage: str) -> list[float]:
    lines = (folder / stage / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def check_same(one_device, folder: Path, found: dict) -> None:
    """To float tolerance: sums in another order, nothing else."""
    one, expected = one_device
    assert found.keys() == expected.keys()
    for stage in ("encoder", "align"):
        np.testing.assert_allclose(losses(folder, stage), losses(one, stage), rtol=2e-4)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=5e-3, atol=2e-3, err_msg=name)


def test_eight_devices_compute_what_one_does(one_device, tmp_path):
    assert "1 processes, 8 devices" in finish(start(tmp_path / "x.npz", 8))
    check_same(one_device, tmp_path / "x", dict(np.load(tmp_path / "x.npz")))


def test_two_processes_compute_what_one_does(one_device, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [start(tmp_path / "x.npz", 2, f"{address},{n},2") for n in range(2)]
    said = [finish(process) for process in both]
    assert "2 processes, 4 devices" in said[0]
    others = [line for line in said[1].splitlines() if not line.startswith("[Gloo]")]
    assert not others  # only the first one reports
    check_same(one_device, tmp_path / "x", dict(np.load(tmp_path / "x.npz")))
