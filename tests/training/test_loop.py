"""The training loop: metrics, traces, and the error at a non-finite step."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from dynapurls_jax.training.run import make_spec, train_run
from dynapurls_jax.training.stages import NonFiniteError
from tests.conftest import ROOT
from tests.helpers.trained import SPLIT, small_config, small_inputs, train_small

RECORDED = {"step", "epoch", "loss", "grad_norm", "first_step_seconds", "host_gb"}
TIMED = {"step_seconds", "clips_per_second", "input_wait_share"}


def replayed(error: pytest.ExceptionInfo) -> str:
    """The output of the command that an error names."""
    script, folder = re.search(r"python (\S+) (\S+)$", str(error.value)).groups()
    call = [sys.executable, str(ROOT / script), folder]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_each_stage_records_its_steps_and_writes_a_trace(tmp_path):
    config = small_config()
    config.fit.update(epochs=5, folds=0)
    train_run(replace(make_spec(small_inputs(config), tmp_path, SPLIT, 0), profile=True))
    for stage, more in (("encoders", set()), ("methods", {"val_accuracy"})):
        (folder,) = (tmp_path / SPLIT / "seed0" / stage).iterdir()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert all(line.keys() >= RECORDED | more for line in lines)
        assert all(line.keys() >= TIMED for line in lines[1:])
        assert all(0 <= line["input_wait_share"] <= 1 for line in lines[1:])
        assert all(line["grad_norm"] > 0 for line in lines)
        assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
        assert next((folder / "tensorboard").glob("events.*")).stat().st_size > 100
        assert next((folder / "profile").rglob("*.xplane.pb")).stat().st_size > 1000


def train_with_a_bad_clip(workdir):
    """Trains on a clip with a NaN; returns the index of the clip and the error."""
    inputs = small_inputs()
    clips = np.array(inputs.clips.clips)
    bad = make_spec(inputs, workdir, SPLIT, 0).protocol.train[5]
    clips[bad, 0, 3, 2, 1] = np.nan
    with pytest.raises(NonFiniteError) as error:
        train_small(replace(inputs, clips=replace(inputs.clips, clips=clips)), workdir)
    return bad, error


def diverge(workdir):
    """Trains a method with too high a learning rate; returns the error."""
    config = small_config()
    config.fit.update(learning_rate=1e25, epochs=20, patience=20)
    with pytest.raises(NonFiniteError) as error:
        train_small(small_inputs(config), workdir)
    return error


def test_a_non_finite_clip_stops_training_and_is_named(tmp_path):
    bad, error = train_with_a_bad_clip(tmp_path)
    assert re.search(rf"step (\d+) .*clip{bad:03d}", str(error.value))
    (file,) = tmp_path.glob(f"{SPLIT}/seed0/encoders/*/nonfinite-step-*/batch.npz")
    with np.load(file) as batch:
        assert bad in batch["indices"]
        assert np.isnan(batch["clips"]).sum() == 1


def test_a_diverging_method_stops(trained_workdir):
    error = str(diverge(trained_workdir).value)
    assert re.search(r"step \d+ of epoch \d+ of fold \d \(fit.folds\) is not finite", error)


@pytest.mark.slow
def test_non_finite_steps_can_be_replayed(tmp_path):
    printed = replayed(train_with_a_bad_clip(tmp_path / "clip")[1])
    assert "clips [8, 1, 8, 20, 3]: 1 values are not finite" in printed
    assert "loss nan; first not finite: data_norm" in printed
    assert "parameters" not in printed  # the state is from before the step
    printed = replayed(diverge(tmp_path / "method"))
    assert "tokens [8, 60, 16]: 0 values are not finite" in printed
    assert "loss nan; first not finite: invalid value (nan) encountered in" in printed
    assert "parameters" not in printed


@pytest.mark.slow
def test_a_step_of_a_method_with_words_can_be_replayed(tmp_path):
    config = small_config()
    config.encoder.name, config.method.name, config.text.encoder = "kinematics", "jpose", "hashing"
    config.fit.update(learning_rate=1e38, folds=0)  # activations are bounded: weights overflow
    with pytest.raises(NonFiniteError) as error:
        train_small(small_inputs(config, text_width=512), tmp_path)
    printed = replayed(error)
    assert "words [6, 2, 512]: 0 values are not finite" in printed
    assert "text [6, 8, 512]: 0 values are not finite" in printed
    assert "loss nan; first not finite: invalid value (nan) encountered in" in printed


CACHED = """
import pathlib, sys, time
from dynapurls_jax import compile_cache
compile_cache.MIN_SECONDS = 0
compile_cache.keep_programs(pathlib.Path(sys.argv[1]))
import jax, jax.numpy as jnp
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).block_until_ready()
"""


@pytest.mark.parametrize("elsewhere", [False, True])
def test_compiled_programs_are_cached_in_the_workdir_unless_jax_has_another_cache(
    tmp_path, elsewhere
):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    if elsewhere:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "other")
    call = [sys.executable, "-c", CACHED, str(tmp_path / "work")]
    for _ in range(2):
        subprocess.run(call, env=environment, check=True, timeout=120)
    programs = list((tmp_path / "work").glob("xla-cache/*/*-cache"))
    assert bool(programs) != elsewhere
    names = {re.sub(r"-[0-9a-f]{20,}-cache", "", path.name) for path in programs}
    assert len(names) == len(programs)  # the second process reads the cache of the first


@pytest.mark.slow
def test_memory_does_not_grow_with_steps(tmp_path):
    """Compares the peak memory of the process after the first and the last epoch."""
    config = small_config()
    config.pretrain.epochs = 12
    train_small(small_inputs(config), tmp_path)
    (file,) = tmp_path.glob(f"{SPLIT}/seed0/encoders/*/metrics.jsonl")
    used = [json.loads(line)["host_gb"] for line in file.read_text().splitlines()]
    assert used[-1] - used[1] < 0.1
    assert len(jax.live_arrays()) < 10_000
