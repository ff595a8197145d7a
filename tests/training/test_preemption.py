"""Real processes are killed at random moments; what they had done is there, and the rest comes."""

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

from dynapurls_jax.training.checkpoints import Checkpoints, tree_digest
from dynapurls_jax.serving.live_stream import LiveStream
from tests.helpers import killed_case
from tests.conftest import ROOT
from tests.test_training import SPLIT

ROUNDS = random.Random()  # a new one each time: the seed is said where a test fails
RUN = Path(SPLIT) / "seed0"
STAGES = ("encoder", "tokens", "align-label_free")


def process(*arguments: object) -> subprocess.Popen:
    """The small case, in a process of its own."""
    call = [sys.executable, "-m", "tests.helpers.killed_case", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(call, cwd=ROOT, **pipes)


def wait_until(there, running: subprocess.Popen) -> None:
    """Waits for a condition; the process may end before it is true."""
    end = time.monotonic() + 240
    while not there() and running.poll() is None:
        assert time.monotonic() < end, "the process does nothing"
        time.sleep(0.01)


def begun(folder: Path, stage: str):
    """Whether a stage has something that could be lost."""
    if stage == "tokens":
        return lambda: (folder / RUN / "tokens.part" / "progress.json").exists()
    return lambda: any((folder / RUN / stage / "checkpoints.sha256").glob("*.sha256"))


def check_earlier_work(folder: Path, before: dict[str, int | None]) -> dict[str, int | None]:
    """Checkpoints never go back; gives the newest of each stage."""
    now = {}
    for stage in ("encoder", "align-label_free"):
        checkpoints = Checkpoints(folder / RUN / stage / "checkpoints")
        now[stage] = checkpoints.latest()
        checkpoints.close()
        assert (now[stage] or 0) >= (before.get(stage) or 0)
    return now


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, killed_case.train(folder)


def test_training_killed_at_random_moments_ends_with_the_same_bits(whole, tmp_path):
    _, expected = whole
    kept: dict[str, int | None] = {}
    for stage, kind in zip(
        (*STAGES, "encoder", "align-label_free"),
        (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM),
        strict=True,
    ):
        folder = tmp_path / ("terminated" if kind == signal.SIGTERM else "killed")
        if not kept or kind == signal.SIGTERM:
            kept = {}
        running = process("train", folder)
        wait_until(begun(folder, stage), running)
        time.sleep(ROUNDS.uniform(0, 1.0))
        running.send_signal(kind)
        said = running.communicate(timeout=120)[0]
        if "alignment (label_free)" in said:
            continue  # its work was done before
        if kind == signal.SIGTERM:
            assert running.returncode == 128 + signal.SIGTERM, said
            assert "stopped by SIGTERM; the same command goes on from here" in said
            assert "Traceback" not in said
        else:
            assert running.returncode == -signal.SIGKILL, said
        kept = check_earlier_work(folder, kept)
    for name in ("killed", "terminated"):
        resumed = killed_case.train(tmp_path / name)
        assert tree_digest(resumed.variables) == tree_digest(expected.variables)
        np.testing.assert_array_equal(resumed.tokens, expected.tokens)
        assert resumed.results == expected.results


def test_a_resumed_run_reports_each_step_once(whole, tmp_path):
    running = process("train", tmp_path)
    wait_until(begun(tmp_path, "encoder"), running)
    time.sleep(ROUNDS.uniform(0, 0.5))
    running.kill()
    running.communicate()
    killed_case.train(tmp_path)
    for stage in ("encoder", "align-label_free"):
        lines = (tmp_path / RUN / stage / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == sorted(set(steps))
        assert len(list((tmp_path / RUN / stage / "tensorboard").glob("events.*"))) >= 1


def answers_in(text: str) -> dict[str, str]:
    """The answers by the number of their sample; other lines are no answers."""
    return {line.split()[0]: line for line in text.splitlines() if line[:1].isdigit()}


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_stream_killed_in_its_middle_goes_on_with_the_same_answers(whole, tmp_path, kind):
    workdir, _ = whole
    expected = process("stream", workdir, tmp_path / "expected").communicate()[0]
    answers: dict[str, str] = {}
    for _ in range(2):
        running = process("stream", workdir, tmp_path / "state")
        assert running.stdout is not None
        wanted = len(answers) + ROUNDS.randrange(4, 20)
        while len(answers) < wanted:
            line = running.stdout.readline()
            assert line, answers  # it has ended
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
        live = LiveStream(killed_case.inputs(), workdir, SPLIT, 0)
        states.append(checkpoints.restore(live.state))
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, *states)
