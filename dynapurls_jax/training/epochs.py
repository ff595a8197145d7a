"""Stage 3 for methods with a loss: epochs over the samples, with early stopping.

Data parallel: each device keeps its part of the tokens, gets its part of each batch, and has all of
the parameters; `jax.jit` adds the reductions. An epoch is one dispatch.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from data_pipelines.progress import progress
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.checkpoints import Checkpoints
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


class FitState(flax.struct.PyTreeNode):
    """Everything that training carries from epoch to epoch; arrays only, so it checkpoints."""

    variables: Variables
    opt_state: Any
    best: Variables
    best_accuracy: Any  # float32 []; Any, since JAX also fills pytrees with placeholders
    best_epoch: Any  # int32 []
    epoch: Any  # int32 []


def train_method(
    task: MethodTask, checkpoints: Checkpoints, folder: Path, profile: bool = False
) -> tuple[Variables, dict]:
    """Trains until the accuracy on seen validation clips stops rising; resumes from a checkpoint.

    Args:
      folder: of the stage, for its reports.
      profile: write a trace of some epochs there.

    Returns:
      The variables of the best epoch, on the host, and `{"val_accuracy", "best_epoch", "epochs"}`.

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    mesh = mesh_for(task.batch_size, "fit.batch_size")
    text = jax.device_put(jnp.asarray(task.text), everywhere(mesh))
    train, val = (_on_devices(mesh, samples) for samples in (task.train, task.val))
    begin = partial(fresh_state, task)
    if checkpoints.latest() is None:
        state = jax.jit(begin, out_shardings=everywhere(mesh))(train.tokens, text)
    else:
        shapes = jax.eval_shape(begin, train.tokens, text)
        state = jax.device_put(checkpoints.restore(shapes, on_host=True), everywhere(mesh))
    if not _finished(state, task.settings):
        run_epoch = partial(make_epoch(task, mesh), train=train, val=val, text=text)
        report = partial(report_fit, task, folder)
        with Loop(folder, checkpoints, int(state.epoch), len(task.ids), report, profile) as loop:
            state = _run(task, state, run_epoch, loop)
    return jax.device_get(state.best), {
        "val_accuracy": float(state.best_accuracy),
        "best_epoch": int(state.best_epoch),
        "epochs": int(state.epoch),
    }


def optimizer_of(settings: FitSettings) -> optax.GradientTransformation:
    """AdamW at a constant rate."""
    return optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)


def fresh_state(task: MethodTask, tokens: Array, text: Float[Array, "C G d"]) -> FitState:
    """The state before the first epoch.

    Args:
      tokens: of the training samples, perhaps padded.
    """
    assert task.method.init is not None
    real = jnp.asarray(tokens, jnp.float32)[: len(task.ids)]
    variables = task.method.init(key_of(task.seed, "method_init"), real, text)
    return FitState(
        variables=variables,
        opt_state=optimizer_of(task.settings).init(variables["params"]),
        best=jax.tree.map(jnp.copy, variables),  # the state is donated: no buffer twice
        best_accuracy=jnp.float32(-1),
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
            best = float(state.best_accuracy)  # waits: whether to go on depends on it
            loop.log(state, epoch=float(state.epoch), best_val_accuracy=best)
            report(int(state.epoch), loss=float(figures["loss"].mean()), best_val=best)
        loop.save(state)
    return state


def _finished(state: FitState, settings: FitSettings) -> bool:
    waited = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= settings.epochs or waited >= settings.patience


def make_epoch(task: MethodTask, mesh: Mesh) -> Callable:
    """The jitted epoch `(state, root key, train, val, text) -> (state, figures, batches)`.

    A scan over shuffled whole minibatches, then the validation, in one dispatch. `figures` are each
    batch's loss and norm of the gradient, and the accuracy on `val`; if one of them is not finite
    the state stays as it was before that batch. `batches` are the indices of all batches, and which
    batches are finite.
    """
    method, count, size = task.method, len(task.ids), task.batch_size
    optimizer, method_loss = optimizer_of(task.settings), task.method.loss
    assert method_loss is not None

    def step(carry, batch, train, text, key):
        variables, opt_state, finite = carry
        indices, number = batch
        # Each device has its own part of the samples; those of a batch are divided anew.
        tokens = jax.lax.with_sharding_constraint(train.tokens[indices], divided(mesh))
        labels = jax.lax.with_sharding_constraint(train.labels[indices], divided(mesh))

        def loss_fn(params):
            samples = (jnp.asarray(tokens, jnp.float32), labels)
            step_key = jax.random.fold_in(key, number + 1)
            return method_loss({**variables, "params": params}, samples, text, step_key)

        loss, grads = jax.value_and_grad(loss_fn)(variables["params"])
        norm = optax.tree.norm(grads)
        finite = finite & jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, new_opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        after = ({**variables, "params": params}, new_opt_state)
        variables, opt_state = optax.tree.where(finite, after, (variables, opt_state))
        return (variables, opt_state, finite), (loss, norm, finite)

    @partial(jax.jit, donate_argnums=0, out_shardings=everywhere(mesh))
    def run_epoch(state: FitState, root, train: Samples, val: Samples, text):
        key = jax.random.fold_in(root, state.epoch)
        order = jax.random.permutation(key, count)[: count // size * size]
        batches = order.reshape(-1, size)
        (variables, opt_state, finite), (losses, norms, each_finite) = jax.lax.scan(
            partial(step, train=train, text=text, key=key),
            (state.variables, state.opt_state, jnp.array(True)),
            (batches, jnp.arange(len(batches))),
        )
        accuracy = validation_accuracy(method, variables, val, text)
        after = _validated(state, (variables, opt_state), accuracy, finite)
        figures = {"loss": losses, "grad_norm": norms, "val_accuracy": accuracy}
        return after, figures, (order, each_finite)

    return run_epoch


def _validated(
    state: FitState, trained: tuple[Variables, Any], accuracy: Array, finite: Bool[Array, ""]
) -> FitState:
    """The state after an epoch, with its variables as the best if none before was as accurate."""
    variables, opt_state = trained
    better = finite & (accuracy > state.best_accuracy)
    epoch = state.epoch + finite
    return FitState(
        variables=variables,
        opt_state=opt_state,
        best=optax.tree.where(better, variables, state.best),
        best_accuracy=jnp.where(better, accuracy, state.best_accuracy),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
        epoch=epoch,
    )
