"""Stage 3 for methods with a loss: training with the number of epochs chosen by cross-validation.

Two kinds of models are trained together: one on all seen classes, and one for each fold without the
fold's held-out classes (`training.folds`). The result is the model of all seen classes after the
epoch with the highest mean accuracy of the folds on their held-out classes.

Several runs that differ in the seed and the learning rate alone are trained together, by one
program (`training.epoch_program`).
"""

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from data_pipelines.progress import progress
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.checkpoints import CheckpointGroup, Checkpoints
from dynapurls_jax.training.epoch_program import (
    Data,
    FitState,
    Run,
    finished,
    fresh_state,
    make_epoch,
)
from dynapurls_jax.training.folds import Folds, folds_of
from dynapurls_jax.training.loop import Loop
from dynapurls_jax.training.mesh import divide_rows, everywhere, mesh_for
from dynapurls_jax.training.method_task import MethodTask, Samples
from dynapurls_jax.training.nonfinite import report_runs
from dynapurls_jax.zero_shot.base import Variables


def train_methods(
    tasks: Sequence[MethodTask],
    checkpoints: Sequence[Checkpoints],
    folders: Sequence[Path],
    profile: bool = False,
) -> list[tuple[Variables, dict]]:
    """Trains until the accuracy on held-out seen classes stops rising; resumes from checkpoints.

    Args:
      tasks: of one or more runs, which differ in the seed and the learning rate alone.
      checkpoints: of each run.
      folders: folder of each run's stage, for metrics and reports.
      profile: write a trace of some epochs to the first folder.

    Returns:
      For each run, the variables of the best epoch, on the host, and its results: `val_accuracy` on
      validation clips of seen classes, `held_out_accuracy` (the smoothed mean over the folds; None
      without folds), `best_epoch` and `epochs`. Accuracies are in [0, 1].

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    task, folds = tasks[0], [folds_of(task) for task in tasks]
    mesh = mesh_for(task.batch_size, "fit.batch_size")
    data = data_of(task, mesh)
    state = _stacked(
        [_first_state(*run, data) for run in zip(tasks, folds, checkpoints, strict=True)]
    )
    state = jax.device_put(state, everywhere(mesh))
    if not all(finished(state, task.settings)):
        group, first = CheckpointGroup(checkpoints), int(state.epoch.max())
        report = partial(report_runs, tasks, folders)
        with Loop(folders, group, first, len(task.ids), report, profile) as loop:
            state = _run(tasks, state, runs_of(tasks, folds), data, mesh, loop)
    return [
        _result(task, one) for task, one in zip(tasks, _runs(jax.device_get(state)), strict=True)
    ]


def data_of(task: MethodTask, mesh: Mesh) -> Data:
    """The data of a task on the devices: samples are divided, text is everywhere."""

    def divided(samples: Samples) -> Samples:
        labels = divide_rows(mesh, np.asarray(samples.labels, np.int32) + 1) - 1  # padded with -1
        return Samples(divide_rows(mesh, samples.tokens), labels)

    def replicated(text: Any) -> Any:
        return jax.device_put(jax.tree.map(jnp.asarray, text), everywhere(mesh))

    published = task.published and (divided(task.published[0]), replicated(task.published[1]))
    return Data(divided(task.train), divided(task.val), replicated(task.text), published)


def _first_state(task: MethodTask, folds: Folds, checkpoints: Checkpoints, data: Data) -> FitState:
    begin, root = partial(fresh_state, task), key_of(task.seed, "method_init")
    if checkpoints.latest() is None:
        return jax.jit(begin)(root, data.train.tokens, data.text, folds)
    shapes = jax.eval_shape(begin, root, data.train.tokens, data.text, folds)
    return checkpoints.restore(shapes, on_host=True)


def runs_of(tasks: Sequence[MethodTask], folds: Sequence[Folds]) -> Run:
    """What differs between the runs, with a leading axis of the runs."""
    return _stacked(
        [
            Run(key_of(task.seed, "fit"), jnp.float32(task.settings.learning_rate), own)
            for task, own in zip(tasks, folds, strict=True)
        ]
    )


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _runs(state: FitState) -> list[FitState]:
    return [jax.tree.map(itemgetter(run), state) for run in range(len(state.epoch))]


def _run(
    tasks: Sequence[MethodTask], state: FitState, runs: Run, data: Data, mesh: Mesh, loop: Loop
) -> FitState:
    settings, run_epoch = tasks[0].settings, make_epoch(tasks[0], mesh)
    title = f"fitting {tasks[0].record['method']['name']}"
    with progress(title, settings.epochs, int(state.epoch.min())) as report:
        while not all(ended := finished(state, settings)):
            loop.running = ~np.asarray(ended)
            state, figures, batches = run_epoch(state, runs, data)
            loop.after(state, figures, batches)
            best = np.asarray(state.best_accuracy)  # blocks: the stopping rule reads it
            loop.log(state, epoch=np.asarray(state.epoch), best_held_out_accuracy=best)
            losses = np.asarray(figures["loss"])[loop.running]
            report(int(state.epoch.max()), loss=float(losses.mean()), held_out=float(best.mean()))
        loop.save(state)
    return state


def _result(task: MethodTask, state: FitState) -> tuple[Variables, dict]:
    return state.best, {
        "val_accuracy": float(state.val_accuracy),
        "held_out_accuracy": float(state.best_accuracy) if state.folds is not None else None,
        "best_epoch": int(state.best_epoch),
        "epochs": int(state.epoch),
    }
