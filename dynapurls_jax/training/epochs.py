"""Stage 3 for methods with a loss: training with the number of epochs chosen by cross-validation.

Two kinds of models are trained together: one on all seen classes, and one for each fold without the
fold's held-out classes (`training.folds`). The result is the model of all seen classes after the
epoch with the highest mean accuracy of the folds on their held-out classes.

Data parallel: tokens and batches are sharded over the devices, parameters are replicated; `jax.jit`
adds the reductions. An epoch is one dispatch.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from data_pipelines.progress import progress
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.folds import (
    Folds,
    classes_of,
    fewest_samples,
    folds_of,
    held_out_accuracy,
    relabelled,
    shuffled,
)
from dynapurls_jax.training.loop import Loop
from dynapurls_jax.training.mesh import divide_rows, divided, everywhere, mesh_for
from dynapurls_jax.training.method_task import (
    FitSettings,
    MethodTask,
    Samples,
    validation_accuracy,
)
from dynapurls_jax.training.nonfinite import report_fit
from dynapurls_jax.zero_shot.base import Variables

# Momentum of the moving average of held-out accuracies, from 0; a fold has few clips.
SMOOTHING = 0.8


class Trained(NamedTuple):
    """Variables and optimizer state of one model."""

    variables: Variables
    opt_state: Any


class FitState(flax.struct.PyTreeNode):
    """The state of training between epochs; a pytree of arrays, as checkpoints need."""

    trained: Any  # `Trained`
    folds: Any  # `Trained` with a leading axis; None without folds
    best: Variables
    accuracy: Any  # on held-out classes, smoothed over epochs, float32 []
    best_accuracy: Any  # the highest `accuracy`, float32 []
    val_accuracy: Any  # on validation clips of seen classes after `best_epoch`, float32 []
    best_epoch: Any  # int32 []
    epoch: Any  # int32 []


def train_method(
    task: MethodTask, checkpoints: Checkpoints, folder: Path, profile: bool = False
) -> tuple[Variables, dict]:
    """Trains until the accuracy on held-out seen classes stops rising; resumes from a checkpoint.

    Args:
      folder: folder of the stage, for metrics and reports.
      profile: write a trace of some epochs to `folder`.

    Returns:
      The variables of the best epoch, on the host, and its results: `val_accuracy` on validation
      clips of seen classes, `held_out_accuracy` (the smoothed mean over the folds; None without
      folds), `best_epoch` and `epochs`. Accuracies are in [0, 1].

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    mesh = mesh_for(task.batch_size, "fit.batch_size")
    text = jax.device_put(jax.tree.map(jnp.asarray, task.text), everywhere(mesh))
    folds = folds_of(task)
    train, val = (_on_devices(mesh, samples) for samples in (task.train, task.val))
    begin = partial(fresh_state, task, folds=folds)
    if checkpoints.latest() is None:
        state = jax.jit(begin, out_shardings=everywhere(mesh))(train.tokens, text)
    else:
        shapes = jax.eval_shape(begin, train.tokens, text)
        state = jax.device_put(checkpoints.restore(shapes, on_host=True), everywhere(mesh))
    if not _finished(state, task.settings):
        run_epoch = partial(make_epoch(task, folds, mesh), train=train, val=val, text=text)
        report = partial(report_fit, task, folder)
        with Loop(folder, checkpoints, int(state.epoch), len(task.ids), report, profile) as loop:
            state = _run(task, state, run_epoch, loop)
    return jax.device_get(state.best), {
        "val_accuracy": float(state.val_accuracy),
        "held_out_accuracy": float(state.best_accuracy) if len(folds.held) else None,
        "best_epoch": int(state.best_epoch),
        "epochs": int(state.epoch),
    }


def optimizer_of(settings: FitSettings) -> optax.GradientTransformation:
    """AdamW with a constant learning rate."""
    return optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)


def fresh_trained(task: MethodTask, tokens: Array, text: Any, key: PRNGKeyArray) -> Trained:
    """Initial variables and optimizer state.

    Args:
      tokens: `[N, S, n]` of the training samples.
    """
    assert task.method.init is not None
    variables = task.method.init(key, tokens, text)
    return Trained(variables, optimizer_of(task.settings).init(variables["params"]))


def fresh_state(task: MethodTask, tokens: Array, text: Any, folds: Folds) -> FitState:
    """The state before the first epoch.

    Args:
      tokens: `[N, S, n]` of the training samples; may be padded.
    """
    real = jnp.asarray(tokens, jnp.float32)[: len(task.ids)]
    root, kept = key_of(task.seed, "method_init"), jnp.asarray(folds.kept)

    def of_fold(numbered) -> Trained:
        number, kept = numbered
        key = jax.random.fold_in(root, number)
        return fresh_trained(task, real, classes_of(text, kept), key)

    trained = fresh_trained(task, real, text, root)
    return FitState(
        trained=trained,
        folds=jax.lax.map(of_fold, (jnp.arange(len(kept)), kept)) if len(kept) else None,
        best=jax.tree.map(jnp.copy, trained.variables),  # the state is donated: no buffer twice
        accuracy=jnp.float32(0),
        best_accuracy=jnp.float32(0),
        val_accuracy=jnp.float32(0),
        best_epoch=jnp.int32(0),
        epoch=jnp.int32(0),
    )


def _on_devices(mesh: Mesh, samples: Samples) -> Samples:
    labels = divide_rows(mesh, np.asarray(samples.labels, np.int32) + 1) - 1  # padded with -1
    return Samples(divide_rows(mesh, samples.tokens), labels)


def _run(task: MethodTask, state: FitState, run_epoch: Callable, loop: Loop) -> FitState:
    root, settings = key_of(task.seed, "fit"), task.settings
    title = f"fitting {task.record['method']['name']}"
    with progress(title, settings.epochs, int(state.epoch)) as report:
        while not _finished(state, settings):
            state, figures, batches = run_epoch(state, root)
            loop.after(state, figures, batches)
            best = float(state.best_accuracy)  # blocks: the stopping rule reads it
            loop.log(state, epoch=float(state.epoch), best_held_out_accuracy=best)
            report(int(state.epoch), loss=float(figures["loss"].mean()), held_out=best)
        loop.save(state)
    return state


def _finished(state: FitState, settings: FitSettings) -> bool:
    waited = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= settings.epochs or waited >= settings.patience


def make_epoch(task: MethodTask, folds: Folds, mesh: Mesh) -> Callable:
    """The jitted epoch `(state, root key, train, val, text) -> (state, figures, batches)`.

    One dispatch trains the model and the folds on shuffled full minibatches and evaluates them.
    `figures` has the loss and gradient norm of each batch and the accuracies. From the first batch
    with a non-finite loss or gradient on, the state does not change. `batches` has the sample
    indices of all batches and a flag for each batch: whether it and all before it are finite.
    """
    method, count, size = task.method, len(task.ids), task.batch_size
    step = make_step(task, mesh)

    def of_fold(root, epoch, train: Samples, text, numbered):
        number, fold, trained = numbered
        key = jax.random.fold_in(root, number)
        fewest = fewest_samples(folds)
        batch = min(size, fewest)
        order = shuffled(key, fold.train, fewest // batch * batch)
        own = relabelled(train, fold.kept, len(jax.tree.leaves(text)[0]))
        kept = classes_of(text, fold.kept)
        batches = order.reshape(-1, batch)
        trained, _, _, each_finite = step(trained, own, kept, key, epoch * len(batches), batches)
        share = held_out_accuracy(method, trained.variables, train, fold, text)
        return trained, jnp.where(each_finite.all(), share, jnp.nan)

    @partial(jax.jit, donate_argnums=0, out_shardings=everywhere(mesh))
    def run_epoch(state: FitState, root, train: Samples, val: Samples, text):
        key = jax.random.fold_in(root, state.epoch)
        order = jax.random.permutation(key, count)[: count // size * size]
        batches = order.reshape(-1, size)
        trained, losses, norms, each_finite = step(
            state.trained, train, text, key, state.epoch * len(batches), batches
        )
        figures = {"loss": losses, "grad_norm": norms}
        figures["val_accuracy"] = validation_accuracy(method, trained.variables, val, text)
        trained_folds, score = state.folds, jnp.float32(0)
        if len(folds.held):
            numbered = (jnp.arange(len(folds.held)), jax.tree.map(jnp.asarray, folds), state.folds)
            one = partial(of_fold, jax.random.fold_in(key, count), state.epoch, train, text)
            trained_folds, shares = jax.lax.map(one, numbered)
            figures["held_out_accuracy"] = score = shares.mean()
        after = state.replace(trained=trained, folds=trained_folds)
        finite = each_finite.all() & jnp.isfinite(score)
        after = _scored(after, score, figures["val_accuracy"], finite)
        return after, figures, (order, each_finite)

    return run_epoch


def make_step(task: MethodTask, mesh: Mesh) -> Callable:
    """The scan over batches `(trained, train, text, key, first, batches [n, b])`.

    `first` is the number of steps before. It returns `trained` and, for each step, the loss `[n]`,
    the gradient norm `[n]`, and whether this step and all before it are finite `[n]`.
    """
    optimizer, method_loss = optimizer_of(task.settings), task.method.loss
    assert method_loss is not None

    def step(carry, batch, train: Samples, text, key, first):
        (variables, opt_state), finite = carry
        indices, number = batch
        # The samples of a batch come from all devices; each batch is sharded again.
        samples = (train.tokens[indices], train.labels[indices])
        if len(indices) % mesh.size == 0:  # the batch of a small fold may not be divisible
            samples = jax.lax.with_sharding_constraint(samples, divided(mesh))

        def loss_fn(params):
            tokens, labels = samples
            step_key = jax.random.fold_in(key, number + 1)
            chosen = (jnp.asarray(tokens, jnp.float32), labels)
            return method_loss(
                {**variables, "params": params}, chosen, text, step_key, first + number
            )

        loss, grads = jax.value_and_grad(loss_fn)(variables["params"])
        norm = optax.tree.norm(grads)
        finite = finite & jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, new_opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        after = Trained({**variables, "params": params}, new_opt_state)
        return (optax.tree.where(finite, after, carry[0]), finite), (loss, norm, finite)

    def steps(trained: Trained, train: Samples, text, key, first, batches: Int[Array, "n b"]):
        (trained, _), seen = jax.lax.scan(
            partial(step, train=train, text=text, key=key, first=first),
            (trained, jnp.array(True)),
            (batches, jnp.arange(len(batches))),
        )
        return trained, *seen

    return steps


def _scored(state: FitState, score: Array, val: Array, finite: Bool[Array, ""]) -> FitState:
    """The state after an epoch; `best` is replaced if no earlier epoch has a higher accuracy.

    The last of equally accurate epochs is kept, so that training does not stop early when held-out
    classes are easy.
    """
    score = SMOOTHING * state.accuracy + (1 - SMOOTHING) * score
    better = finite & (score >= state.best_accuracy)
    epoch = state.epoch + finite
    return state.replace(
        best=optax.tree.where(better, state.trained.variables, state.best),
        accuracy=jnp.where(finite, score, state.accuracy),
        best_accuracy=jnp.where(better, score, state.best_accuracy),
        val_accuracy=jnp.where(better, val, state.val_accuracy),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
        epoch=epoch,
    )
