"""Training on one device, on eight, and in two processes has the same results."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def start(devices: int, module: str, *arguments: object) -> subprocess.Popen:
    """Starts a module in its own process with this number of devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    call = [sys.executable, "-m", f"tests.helpers.{module}", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, env=environment, cwd=ROOT, **pipes)


def finish(process: subprocess.Popen) -> str:
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return out


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The results of one device, and the folder of its stages."""
    folder = tmp_path_factory.mktemp("one")
    assert "1 processes, 1 devices" in finish(start(1, "parallel_case", folder / "x.npz"))
    return folder / "x", dict(np.load(folder / "x.npz"))


def losses(folder: Path, stage: str) -> list[float]:
    lines = (folder / stage / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def check_same(one_device, folder: Path, found: dict) -> None:
    """Compares results up to the order of sums."""
    one, expected = one_device
    assert found.keys() == expected.keys()
    for stage in ("encoder", "method"):
        np.testing.assert_allclose(losses(folder, stage), losses(one, stage), rtol=2e-4)
    for name, value in expected.items():
        most = 5e-2 if name == "tokens" else 5e-3  # tokens are up to 5, in half precision
        np.testing.assert_allclose(found[name], value, rtol=5e-3, atol=most, err_msg=name)


def test_eight_devices_compute_what_one_does(one_device, tmp_path):
    assert "1 processes, 8 devices" in finish(start(8, "parallel_case", tmp_path / "x.npz"))
    check_same(one_device, tmp_path / "x", dict(np.load(tmp_path / "x.npz")))


def test_two_processes_compute_what_one_does(one_device, tmp_path):
    founds = []
    for _ in range(2):  # the second run restores finished stages
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        out = tmp_path / "x.npz"
        both = [start(2, "parallel_case", out, f"{address},{n},2") for n in range(2)]
        printed = [finish(process) for process in both]
        assert "2 processes, 4 devices" in printed[0]
        # Gloo prints "[Gloo] Rank 2 is connected to 3 peer ranks. ..." in pieces, from two threads.
        gloo = ("[Gloo]", "peer ranks")
        lines = printed[1].splitlines()
        others = [line for line in lines if line and not any(part in line for part in gloo)]
        assert not others  # only the first one reports
        founds.append(dict(np.load(tmp_path / "x.npz")))
    assert "pretraining" not in printed[0]
    check_same(one_device, tmp_path / "x", founds[0])
    for name, value in founds[0].items():
        np.testing.assert_array_equal(founds[1][name], value, err_msg=name)


def test_streams_on_several_devices_equal_streams_on_one():
    assert finish(start(3, "parallel_streams")) == "the same\n"


# The benchmarks import each other by name from their folder.
SCALING = "import sys; sys.path.insert(0, 'scripts/benchmarks')\nfrom scaling import *\n"
COUNT = (
    SCALING
    + """
pretend_devices(8)
import jax
from tests.helpers.parallel_case import encoder_task
from dynapurls_jax.training.pretrain import fresh_state
task = encoder_task()
count, size = collectives(compile_pretraining(task))
state = jax.eval_shape(lambda: fresh_state(task))

def numbers(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))

# The lower bound: gradients once, both moments of each normalisation in the forward and the
# backward pass; those of the input normalisation only forward, as no parameter precedes it.
moments = 2 * numbers(state.batch_stats) - numbers(state.batch_stats["data_norm"])
expected = 4 * (numbers(state.params) + moments)
print(*count.items(), size["all-reduce"], expected, sep="; ")
"""
)


def test_the_communication_equals_the_cost_model():
    """Counts the all-reduced bytes in the compiled step of eight devices."""
    call = [sys.executable, "-c", COUNT]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    kinds, found, expected = done.stdout.rsplit("; ", 2)
    number = int(re.fullmatch(r"\('all-reduce', (\d+)\)", kinds)[1])  # no other collective
    assert 36 <= number <= 2 * 36 + 4  # 36 norms, gradients, numbers of persons
    assert float(found) == pytest.approx(float(expected), rel=0.01)


OWN_STATISTICS = (
    SCALING
    + """
pretend_devices(2)
from dataclasses import replace
import jax, jax.numpy as jnp, numpy as np
from data_pipelines.settings import Augmentation
from dynapurls_jax.training.mesh import divide
from dynapurls_jax.training.pretrain import fresh_state, make_step
from tests.helpers.parallel_case import encoder_task

none = Augmentation(turn=0, tilt=0, crop=1, scale=0, noise=0)
task = replace(encoder_task(), augmentation=none)
mesh = mesh_for(8, "batch")

def after(statistics, clips):
    settings = replace(task.settings, statistics=statistics)
    step = make_step(replace(task, settings=settings), mesh)
    batch = divide(mesh, (task.clips.clips[clips], task.labels[clips]))
    state = jax.device_put(fresh_state(task), everywhere(mesh))
    state, figures = step(state, *batch, jax.random.key(0), np.int32(0), 8)
    leaves = jax.tree.leaves((state.params, state.batch_stats))
    return np.concatenate([np.ravel(leaf) for leaf in leaves])

for clips in ([0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7]):
    print(abs(after("batch", clips) - after("device", clips)).max())
task = replace(task, settings=replace(task.settings, statistics="device"))
print(*collectives(compile_pretraining(task))[0].items())
"""
)


def test_statistics_of_each_device_need_one_all_reduce():
    """They equal those of the batch only if both devices have the same clips."""
    call = [sys.executable, "-c", OWN_STATISTICS]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    same, different, messages = done.stdout.splitlines()
    assert float(same) < 1e-5 < 1e-3 < float(different)
    assert messages == "('all-reduce', 1)"


FULL_SIZE = (
    SCALING
    + """
pretend_devices(8)
from dynapurls_jax.config import load_config
config = load_config(ROOT / "configs" / "ntu120.py")
epoch = compile_fit(config, 63_026, 3_000, 110).memory_analysis()
print(epoch.argument_size_in_bytes, epoch.temp_size_in_bytes)
"""
)


def test_the_tokens_of_ntu120_fit_a_small_device():
    """Compiles an epoch for eight devices: each has an eighth of the tokens, in half precision."""
    call = [sys.executable, "-c", FULL_SIZE]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    arguments, scratch = map(int, done.stdout.split())
    tokens = (63_026 + 3_000) * 75 * 256 * 2 / 8
    assert tokens < arguments < 1.2 * tokens
    assert scratch < 0.5e9
