"""Runs that are trained together: each is as it would be alone. The published choice of epochs."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.training import epoch_program, epochs
from dynapurls_jax.training.fit import with_published_epoch
from dynapurls_jax.training.folds import folds_of
from dynapurls_jax.training.mesh import mesh_for
from dynapurls_jax.training.method_task import Samples, validation_accuracy
from dynapurls_jax.training.metrics import json_lines
from dynapurls_jax.training.stages import NonFiniteError
from tests.helpers.fit_case import small_task, trained
from tests.helpers.fitting import trained_together


def variants(**fit):
    """Two seeds, and two learning rates."""
    task = small_task(**fit)
    faster = replace(task, settings=replace(task.settings, learning_rate=0.2))
    return [task, replace(task, seed=task.seed + 1), faster]


def folders_in(folder):
    return [folder / str(number) for number in range(3)]


def test_each_run_is_what_it_is_alone(tmp_path):
    """Also where one stops earlier than the others; its metrics end there."""
    tasks = variants(epochs=12, patience=3)
    together = trained_together(tasks, folders_in(tmp_path / "together"))
    ended = [results["best_epoch"] for _, results in together]
    assert len(set(ended)) > 1
    for number, (task, (variables, results)) in enumerate(zip(tasks, together, strict=True)):
        alone, expected = trained(task, tmp_path / f"alone{number}")
        assert results == expected
        jax.tree.map(np.testing.assert_array_equal, variables, alone)
        lines = list(json_lines(tmp_path / "together" / str(number) / "metrics.jsonl"))
        assert [line["epoch"] for line in lines] == list(range(1, ended[number] + 1))


def test_runs_of_different_epochs_continue_together(tmp_path):
    """One run was trained alone before; it is restored, and only the others are trained."""
    tasks = variants(epochs=4, patience=4)
    before = trained(tasks[1], tmp_path / "together" / "1")
    again = trained_together(tasks, folders_in(tmp_path / "together"))
    jax.tree.map(np.testing.assert_array_equal, before, again[1])
    expected = trained(tasks[0], tmp_path / "alone")
    jax.tree.map(np.testing.assert_array_equal, expected, again[0])


def test_at_once_and_one_by_one_agree():
    """`vmap` on accelerators and the loop on a CPU compute the same."""
    values = jnp.arange(12.0).reshape(3, 4)

    def function(row, scale):
        return jax.lax.cond(scale > 1, lambda: row.cumsum() * scale, lambda: row)

    arguments = (function, values, jnp.arange(3.0))
    loop, at_once = (epoch_program.over_runs(*arguments, one_by_one=flag) for flag in (True, False))
    np.testing.assert_allclose(loop, at_once, rtol=1e-6)


def test_a_run_that_diverges_is_reported_with_its_own_seed(tmp_path):
    task = small_task(folds=0)
    broken = replace(task, settings=replace(task.settings, learning_rate=np.inf), seed=7)
    with pytest.raises(NonFiniteError, match="is not finite; its batch was"):
        trained_together([task, broken], folders_in(tmp_path)[:2])
    (report,) = tmp_path.glob("1/nonfinite-step-*/about.json")
    assert json.loads(report.read_text("utf-8"))["seed"] == 7


def test_the_published_protocol_keeps_the_epoch_that_is_best_on_the_test_clips():
    task = small_task(published_protocol=True, patience=1, learning_rate=0.02)
    tokens, labels = np.array(task.train.tokens), np.array(task.train.labels)
    test = Samples(tokens[labels < 3], labels[labels < 3])
    task = replace(task, published=(test, np.array(task.text)[:3]))
    assert not len(folds_of(task).held)
    mesh = mesh_for(task.batch_size, "batch")
    data, program = epochs.data_of(task, mesh), epoch_program.fit_program(task, mesh)
    state = epoch_program.fresh_state(task, jax.random.key(0), data)
    run = epoch_program.Run(jax.random.key(1), jnp.float32(0.02), jnp.int32(task.settings.epochs))
    run_epoch, rates = jax.jit(program.epoch), []
    while not program.finished(state, run):
        state, *_ = run_epoch(state, run, data)
        rate = validation_accuracy(task.method, state.trained.variables, *data.published)
        rates.append(float(rate))
        if state.best_epoch == state.epoch:
            best = state.trained.variables
    assert len(rates) == task.settings.epochs
    assert float(state.score) == max(rates) == rates[int(state.best_epoch) - 1]
    assert min(rates) < max(rates)
    jax.tree.map(np.testing.assert_array_equal, state.best, best)
    assert with_published_epoch(task.method).oracle is not None  # results are marked ORACLE
