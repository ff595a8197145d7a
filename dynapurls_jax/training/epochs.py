"""Stage 3 for methods with a loss: cross-validation chooses the number of epochs, then training.

The folds (`training.folds`) are trained until their mean accuracy on held-out classes stops rising;
the model of all seen classes is then trained for the best number of epochs. Several runs that
differ in the seed and the learning rate alone are trained together, by one program
(`training.epoch_program`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    Program,
    Run,
    fit_program,
    fresh_state,
    make_epoch,
)
from dynapurls_jax.training.fold_program import fold_program, fresh_folds
from dynapurls_jax.training.folds import folds_of
from dynapurls_jax.training.loop import Loop
from dynapurls_jax.training.mesh import divide_rows, everywhere, mesh_for
from dynapurls_jax.training.method_task import MethodTask, Samples
from dynapurls_jax.zero_shot.base import Variables


@dataclass(frozen=True)
class Group:
    """Runs that are trained together; they differ in the seed and the learning rate alone.

    Attributes:
      tasks, checkpoints: of each run.
      folders: of each run, for metrics and reports.
      profile: write a trace of some epochs to the first folder.
    """

    tasks: Sequence[MethodTask]
    checkpoints: Sequence[Checkpoints]
    folders: Sequence[Path]
    profile: bool = False


def choose_epochs(group: Group) -> list[dict]:
    """Chooses the number of epochs by cross-validation; resumes from checkpoints.

    Args:
      group: runs whose task has folds.

    Returns:
      For each run, `best_epoch`, the `held_out_accuracy` in [0, 1] after it (the smoothed mean over
      the folds), and `epochs`, the number of epochs that were tried.

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    tasks = group.tasks
    mesh = mesh_for(tasks[0].batch_size, "fit.batch_size")
    folds = [folds_of(task) for task in tasks]
    fresh = [partial(fresh_folds, *run) for run in zip(tasks, folds, strict=True)]
    runs = runs_of(tasks, [task.settings.epochs for task in tasks])
    runs = runs._replace(folds=_stacked(folds))
    states = _train(group, fold_program(tasks[0], mesh), fresh, runs, mesh)
    return [
        {
            "held_out_accuracy": float(state.best_accuracy),
            "best_epoch": int(state.best_epoch),
            "epochs": int(state.epoch),
        }
        for state in states
    ]


def train_methods(group: Group, epochs: Sequence[int]) -> list[tuple[Variables, dict]]:
    """Trains on all seen classes for the given numbers of epochs; resumes from checkpoints.

    Args:
      epochs: of each run.

    Returns:
      For each run, the variables of the last epoch (published protocol: of the best one), on the
      host, and its results: `val_accuracy` in [0, 1] on validation clips of seen classes, and the
      number of that epoch, `best_epoch`.

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    tasks = group.tasks
    mesh = mesh_for(tasks[0].batch_size, "fit.batch_size")
    fresh = [partial(fresh_state, task) for task in tasks]
    states = _train(group, fit_program(tasks[0], mesh), fresh, runs_of(tasks, epochs), mesh)
    return [
        (
            state.trained.variables if state.best is None else state.best,
            {"val_accuracy": float(state.val_accuracy), "best_epoch": int(state.best_epoch)},
        )
        for state in states
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


def runs_of(tasks: Sequence[MethodTask], epochs: Sequence[int]) -> Run:
    """What differs between the runs, with a leading axis of the runs.

    Args:
      epochs: largest number of epochs of each run.
    """
    return _stacked(
        [
            Run(key_of(task.seed, "fit"), jnp.float32(task.settings.learning_rate), jnp.int32(most))
            for task, most in zip(tasks, epochs, strict=True)
        ]
    )


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _train(
    group: Group,
    program: Program,
    fresh: Sequence[Callable],
    runs: Run,
    mesh: Mesh,
) -> list[Any]:
    """Trains until all runs are finished; returns their states, on the host.

    Args:
      fresh: of each run, `(root, data) -> state` before the first epoch.
      runs: with a leading axis.
    """
    data = data_of(group.tasks[0], mesh)
    first = [
        _first_state(*run, data) for run in zip(group.tasks, fresh, group.checkpoints, strict=True)
    ]
    states = jax.device_put(_stacked(first), everywhere(mesh))
    if not program.finished(states, runs).all():
        run_epoch, checkpoints = make_epoch(program, mesh), CheckpointGroup(group.checkpoints)
        report, clips = partial(program.report, group.tasks, group.folders), len(group.tasks[0].ids)
        start, most = int(states.epoch.max()), int(runs.epochs.max())
        with (
            Loop(group.folders, checkpoints, start, clips, report, group.profile) as loop,
            progress(program.title, most, int(states.epoch.min())) as shown,
        ):
            while not (ended := np.asarray(program.finished(states, runs))).all():
                loop.running = ~ended
                states, figures, batches = run_epoch(states, runs, data)
                loop.after(states, figures, batches)
                loop.log(states, epoch=np.asarray(states.epoch))
                shown(int(states.epoch.max()), **_means(figures, loop.running))
            loop.save(states)
    states = jax.device_get(states)
    return [jax.tree.map(itemgetter(run), states) for run in range(len(group.tasks))]


def _means(figures: dict[str, Any], running: np.ndarray) -> dict[str, float]:
    """Means over the runs that are trained, without the gradient norm."""
    return {
        name: float(np.asarray(value)[running].mean())
        for name, value in figures.items()
        if name != "grad_norm"
    }


def _first_state(task: MethodTask, fresh: Callable, checkpoints: Checkpoints, data: Data) -> Any:
    root = key_of(task.seed, "method_init")
    if checkpoints.latest() is None:
        return jax.jit(fresh)(root, data)
    return checkpoints.restore(jax.eval_shape(fresh, root, data), on_host=True)
