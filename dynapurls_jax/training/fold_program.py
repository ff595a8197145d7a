"""The program of an epoch of the folds, which choose the number of epochs (`training.folds`)."""

from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from dynapurls_jax.training.epoch_program import (
    Data,
    Program,
    Run,
    Trained,
    fresh_trained,
    make_step,
    real_tokens,
)
from dynapurls_jax.training.folds import (
    Folds,
    classes_of,
    fewest_samples,
    held_out_accuracy,
    relabelled,
    shuffled,
)
from dynapurls_jax.training.method_task import MethodTask
from dynapurls_jax.training.nonfinite import report_folds

# Momentum of the moving average of held-out accuracies, from 0; a fold has few clips.
SMOOTHING = 0.8


class FoldState(flax.struct.PyTreeNode):
    """The state of the folds between epochs."""

    trained: Trained  # of each fold, with a leading axis
    accuracy: Any  # on held-out classes, mean of the folds, smoothed over epochs, float32 []
    best_accuracy: Any  # the highest `accuracy`, float32 []
    best_epoch: Any  # the last with `best_accuracy`, int32 []
    epoch: Any  # int32 []


def fresh_folds(task: MethodTask, folds: Folds, root: PRNGKeyArray, data: Data) -> FoldState:
    """The state of one run's folds before the first epoch.

    Args:
      root: key of the initial variables.
    """
    real, kept = real_tokens(task, data), jnp.asarray(folds.kept)

    def of_fold(numbered) -> Trained:
        number, kept = numbered
        key = jax.random.fold_in(root, number)
        return fresh_trained(task, real, classes_of(data.text, kept), key)

    return FoldState(
        trained=jax.lax.map(of_fold, (jnp.arange(len(kept)), kept)),
        accuracy=jnp.float32(0),
        best_accuracy=jnp.float32(0),
        best_epoch=jnp.int32(0),
        epoch=jnp.int32(0),
    )


def fold_program(task: MethodTask, mesh: Mesh) -> Program:
    """Training of the folds `run.folds`; states are `FoldState`.

    `batches` is as in `fit_program`, with an axis of the folds. Training ends `fit.patience` epochs
    after the best one.
    """
    method, step = task.method, make_step(task, mesh)

    def of_fold(run: Run, epoch: Array, data: Data, numbered):
        number, fold, trained = numbered
        key = jax.random.fold_in(run.root, number)
        fewest = fewest_samples(task.train.labels, held=len(fold.held))
        batch = min(task.batch_size, fewest)
        batches = shuffled(key, fold.train, fewest // batch * batch).reshape(-1, batch)
        own = relabelled(data.train, fold.kept, len(jax.tree.leaves(data.text)[0]))
        kept = classes_of(data.text, fold.kept)
        numbers = (epoch * len(batches), batches)
        trained, *figures = step(trained, own, kept, run._replace(root=key), *numbers)
        share = held_out_accuracy(method, trained.variables, data.train, fold, data.text)
        return trained, share, batches.reshape(-1), *figures

    def epoch(state: FoldState, run: Run, data: Data):
        key = jax.random.fold_in(jax.random.fold_in(run.root, state.epoch), len(task.ids))
        one = partial(of_fold, run._replace(root=key, folds=None), state.epoch, data)
        numbered = (jnp.arange(len(run.folds.held)), run.folds, state.trained)
        trained, shares, order, losses, norms, each_finite = jax.lax.map(one, numbered)
        finite = each_finite.all()
        state = _scored(state.replace(trained=trained), shares.mean(), finite)
        figures = {"loss": losses, "grad_norm": norms, "held_out_accuracy": shares.mean()}
        return state, figures, (order, each_finite, finite)

    def finished(state: FoldState, run: Run):
        waited = state.epoch - state.best_epoch >= task.settings.patience
        return (state.epoch >= run.epochs) | waited

    title = f"choosing the epochs of {task.record['method']['name']}"
    return Program(title, epoch, finished, report_folds)


def _scored(state: FoldState, share: Array, finite: Array) -> FoldState:
    """The state after an epoch.

    The last of equally accurate epochs is the best, so that training does not stop early when
    held-out classes are easy.
    """
    smoothed = SMOOTHING * state.accuracy + (1 - SMOOTHING) * share
    better, epoch = finite & (smoothed >= state.best_accuracy), state.epoch + finite
    return state.replace(
        accuracy=jnp.where(finite, smoothed, state.accuracy),
        best_accuracy=jnp.where(better, smoothed, state.best_accuracy),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
        epoch=epoch,
    )
