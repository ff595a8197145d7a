"""Processes that are killed at random times resume from their last checkpoint."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_inputs import ModelInputs
from dynapurls_jax.training.checkpoints import Checkpoints, tree_digest
from tests.conftest import ROOT, SEED
from tests.helpers import killed_case
from tests.helpers.trained import SPLIT

pytestmark = pytest.mark.slow
MOMENTS = random.Random(SEED)  # the test session prints its seed
RUN = Path(SPLIT) / "seed0"
STAGES = ("encoders", "tokens", "methods")


def process(*arguments: object) -> subprocess.Popen:
    """Starts the small case in its own process."""
    call = [sys.executable, "-m", "tests.helpers.killed_case", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(call, cwd=ROOT, **pipes)


def wait_until(condition, running: subprocess.Popen) -> None:
    """Waits until a condition is true or the process has ended."""
    end = time.monotonic() + 240
    while not condition() and running.poll() is None:
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


def has_checkpoint(folder: Path, stage: str):
    """A condition for `wait_until`: whether a stage has written partial results."""
    pattern = "*.part/progress.json" if stage == "tokens" else "*/checkpoints.sha256/*.sha256"
    return lambda: any((folder / RUN / stage).glob(pattern))


def check_earlier_work(folder: Path, before: dict[str, int | None]) -> dict[str, int | None]:
    """Checks that no checkpoint was lost; returns the number of the newest of each stage."""
    now: dict[str, int | None] = {}
    for stage in ("encoders", "methods"):
        for found in (folder / RUN / stage).glob("*/checkpoints"):
            checkpoints = Checkpoints(found)
            now[stage] = checkpoints.latest()
            checkpoints.close()
        assert (now.get(stage) or 0) >= (before.get(stage) or 0)
    return now


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, killed_case.train(folder)


def test_training_killed_at_random_times_has_bit_identical_results(uninterrupted, tmp_path):
    _, expected = uninterrupted
    kept: dict[str, int | None] = {}
    for stage, kind in zip(
        (*STAGES, "encoders", "methods"),
        (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM),
        strict=True,
    ):
        folder = tmp_path / ("terminated" if kind == signal.SIGTERM else "killed")
        if not kept or kind == signal.SIGTERM:
            kept = {}
        running = process("train", folder)
        wait_until(has_checkpoint(folder, stage), running)
        time.sleep(MOMENTS.uniform(0, 1.0))
        running.send_signal(kind)
        printed = running.communicate(timeout=120)[0]
        if "purls: seen validation accuracy" in printed:
            continue  # the process ended before the signal
        if kind == signal.SIGTERM:
            assert running.returncode == 128 + signal.SIGTERM, printed
            assert "stopped by SIGTERM; the same command resumes here" in printed
            assert "Traceback" not in printed
        else:
            assert running.returncode == -signal.SIGKILL, printed
        kept = check_earlier_work(folder, kept)
    for name in ("killed", "terminated"):
        resumed = killed_case.train(tmp_path / name)
        assert tree_digest(resumed.variables) == tree_digest(expected.variables)
        np.testing.assert_array_equal(resumed.tokens, expected.tokens)
        assert resumed.results == expected.results


def test_a_resumed_run_reports_each_step_once(uninterrupted, tmp_path):
    running = process("train", tmp_path)
    wait_until(has_checkpoint(tmp_path, "encoders"), running)
    time.sleep(MOMENTS.uniform(0, 0.5))
    running.kill()
    running.communicate()
    killed_case.train(tmp_path)
    for stage in ("encoders", "methods"):
        (folder,) = (tmp_path / RUN / stage).iterdir()
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == sorted(set(steps))
        assert len(list((folder / "tensorboard").glob("events.*"))) >= 1


def answers_in(text: str) -> dict[str, str]:
    """The answers by sample number; other lines are ignored."""
    return {line.split()[0]: line for line in text.splitlines() if line[:1].isdigit()}


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_stream_resumes_with_the_same_answers(uninterrupted, tmp_path, kind):
    workdir, _ = uninterrupted
    expected = process("stream", workdir, tmp_path / "expected").communicate()[0]
    answers: dict[str, str] = {}
    for _ in range(2):
        running = process("stream", workdir, tmp_path / "state")
        assert running.stdout is not None
        wanted = len(answers) + MOMENTS.randrange(4, 20)
        while len(answers) < wanted:
            line = running.stdout.readline()
            assert line, answers  # empty if the process has ended
            answers |= answers_in(line)
        running.send_signal(kind)
        answers |= answers_in(running.communicate(timeout=60)[0])
        assert running.returncode == (-kind if kind == signal.SIGKILL else 128 + kind)
    answers |= answers_in(process("stream", workdir, tmp_path / "state").communicate()[0])
    assert len(answers) == killed_case.SAMPLES
    assert answers == answers_in(expected)
    states = []
    for name in ("expected", "state"):
        checkpoints = Checkpoints(tmp_path / name / "checkpoints")
        live = LiveStream(ModelInputs(model_of(killed_case.load(workdir))))
        states.append(checkpoints.restore(live.state))
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, *states)
