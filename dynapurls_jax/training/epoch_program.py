"""The program of an epoch of stage 3, for several runs at once.

One dispatch trains the models of all runs on shuffled minibatches, and evaluates them. The runs are
a leading axis of the state: `jax.vmap` on accelerators, and one after the other on a CPU, where
products of small stacked matrices are slower than those of one matrix each.

Data parallel: tokens and batches are sharded over the devices, parameters are replicated; `jax.jit`
adds the reductions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from dynapurls_jax.training.mesh import divided, everywhere
from dynapurls_jax.training.method_task import (
    FitSettings,
    MethodTask,
    Samples,
    validation_accuracy,
)
from dynapurls_jax.training.nonfinite import report_runs
from dynapurls_jax.zero_shot.base import Variables


class Data(NamedTuple):
    """What all runs train on, on the devices.

    Attributes:
      train, val: samples; labels index `text`.
      text: text of the seen classes.
      published: see `MethodTask`.
    """

    train: Samples
    val: Samples
    text: Any
    published: tuple[Samples, Any] | None = None


class Run(NamedTuple):
    """What differs between runs that are trained together.

    Attributes:
      root: key of the batches and of the loss.
      rate: learning rate, float32.
      epochs: largest number of epochs, int32.
      folds: `Folds` of the run, while these are trained.
    """

    root: PRNGKeyArray
    rate: Any
    epochs: Any
    folds: Any = None


class Trained(NamedTuple):
    """Variables and optimizer state of one model."""

    variables: Variables
    opt_state: Any


class FitState(flax.struct.PyTreeNode):
    """The state of a run between epochs; a pytree of arrays, as checkpoints need."""

    trained: Any  # `Trained`
    best: Any  # published protocol: the variables after `best_epoch`; None otherwise
    score: Any  # published protocol: accuracy on the unseen test clips of `best`, float32 []
    val_accuracy: Any  # on validation clips of seen classes after `best_epoch`, float32 []
    best_epoch: Any  # int32 []; the last one, except in the published protocol
    epoch: Any  # int32 []


class Program(NamedTuple):
    """The training of one run.

    Attributes:
      title: of the progress display.
      epoch: `(state, run, data) -> (state, figures, batches)`. `figures` has the loss and gradient
        norm of each batch and the accuracies. From the first batch with a non-finite loss or
        gradient on, the state does not change. `batches` tells which batch that is; its last entry
        is a flag for the whole epoch.
      finished: `(state, run) -> bool`, also with a leading axis of the runs.
      report: raises the error of an epoch that is not finite, see `nonfinite.report_runs`.
    """

    title: str
    epoch: Callable
    finished: Callable
    report: Callable


def optimizer_of(settings: FitSettings) -> optax.GradientTransformation:
    """AdamW with the learning rate 1; a step multiplies its updates by the rate of the run."""
    return optax.adamw(1.0, weight_decay=settings.weight_decay)


def fresh_trained(task: MethodTask, tokens: Array, text: Any, key: PRNGKeyArray) -> Trained:
    """Initial variables and optimizer state.

    Args:
      tokens: `[N, S, n]` of the training samples.
    """
    assert task.method.init is not None
    variables = task.method.init(key, tokens, text)
    return Trained(variables, optimizer_of(task.settings).init(variables["params"]))


def fresh_state(task: MethodTask, root: PRNGKeyArray, data: Data) -> FitState:
    """The state of one run before the first epoch.

    Args:
      root: key of the initial variables.
    """
    trained = fresh_trained(task, real_tokens(task, data), data.text, root)
    best = jax.tree.map(jnp.copy, trained.variables)  # the state is donated: no buffer twice
    return FitState(
        trained=trained,
        best=best if task.settings.published_protocol else None,
        score=jnp.float32(0),
        val_accuracy=jnp.float32(0),
        best_epoch=jnp.int32(0),
        epoch=jnp.int32(0),
    )


def real_tokens(task: MethodTask, data: Data) -> Array:
    """`[N, S, n]` float32 of the training samples, without the padding of the devices."""
    return jnp.asarray(data.train.tokens, jnp.float32)[: len(task.ids)]


def make_epoch(program: Program, mesh: Mesh) -> Callable:
    """The jitted epoch `(states, runs, data) -> (states, figures, batches)` of several runs.

    States and `Run` have a leading axis of the runs. A finished run does not change.
    """

    def unless_finished(data: Data, state: Any, run: Run):
        skipped = jax.tree.map(
            lambda leaf: jnp.ones(leaf.shape, leaf.dtype),
            jax.eval_shape(program.epoch, state, run, data)[1:],
        )
        return jax.lax.cond(
            program.finished(state, run),
            lambda: (state, *skipped),
            lambda: program.epoch(state, run, data),
        )

    @partial(jax.jit, donate_argnums=0, out_shardings=everywhere(mesh))
    def run_epoch(states: Any, runs: Run, data: Data):
        return over_runs(partial(unless_finished, data), states, runs)

    return run_epoch


def over_runs(function: Callable, *runs: Any, one_by_one: bool | None = None) -> Any:
    """Applies a function to each entry of the leading axis of all arguments.

    Args:
      one_by_one: in place of all at once; None chooses by the device.
    """
    if jax.default_backend() == "cpu" if one_by_one is None else one_by_one:
        return jax.lax.map(lambda run: function(*run), runs)
    return jax.vmap(function)(*runs)


def fit_program(task: MethodTask, mesh: Mesh) -> Program:
    """Training on all seen classes; states are `FitState`.

    `batches` has the sample indices of all batches and, for each batch, whether it and all before
    it are finite.
    """
    method, count, size = task.method, len(task.ids), task.batch_size
    step = make_step(task, mesh)

    def epoch(state: FitState, run: Run, data: Data):
        key = jax.random.fold_in(run.root, state.epoch)
        order = jax.random.permutation(key, count)[: count // size * size]
        batches = order.reshape(-1, size)
        numbers = (state.epoch * len(batches), batches)
        trained, losses, norms, each_finite = step(
            state.trained, data.train, data.text, run._replace(root=key), *numbers
        )
        accuracy = validation_accuracy(method, trained.variables, data.val, data.text)
        score = jnp.float32(0)
        if data.published is not None:
            score = validation_accuracy(method, trained.variables, *data.published)
        finite = each_finite.all()
        state = _scored(state.replace(trained=trained), score, accuracy, finite)
        figures = {"loss": losses, "grad_norm": norms, "val_accuracy": accuracy}
        return state, figures, (order, each_finite, finite)

    title = f"fitting {task.record['method']['name']}"
    return Program(title, epoch, lambda state, run: state.epoch >= run.epochs, report_runs)


def make_step(task: MethodTask, mesh: Mesh) -> Callable:
    """The scan over batches `(trained, train, text, run, first, batches [n, b])`.

    `run.root` is the key of the steps, `first` the number of steps before. It returns `trained`
    and, for each step, the loss `[n]`, the gradient norm `[n]`, and whether this step and all
    before it are finite `[n]`.
    """
    optimizer, method_loss = optimizer_of(task.settings), task.method.loss
    assert method_loss is not None

    def step(carry, batch, train: Samples, text, run: Run, first):
        (variables, opt_state), finite = carry
        indices, number = batch
        # The samples of a batch come from all devices; each batch is sharded again.
        samples = (train.tokens[indices], train.labels[indices])
        if len(indices) % mesh.size == 0:  # the batch of a small fold may not be divisible
            samples = jax.lax.with_sharding_constraint(samples, divided(mesh))

        def loss_fn(params):
            tokens, labels = samples
            step_key = jax.random.fold_in(run.root, number + 1)
            chosen = (jnp.asarray(tokens, jnp.float32), labels)
            return method_loss(
                {**variables, "params": params}, chosen, text, step_key, first + number
            )

        loss, grads = jax.value_and_grad(loss_fn)(variables["params"])
        norm = optax.tree.norm(grads)
        finite = finite & jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, new_opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], optax.tree.scale(run.rate, updates))
        after = Trained({**variables, "params": params}, new_opt_state)
        return (optax.tree.where(finite, after, carry[0]), finite), (loss, norm, finite)

    def steps(trained: Trained, train, text, run: Run, first, batches: Int[Array, "n b"]):
        (trained, _), seen = jax.lax.scan(
            partial(step, train=train, text=text, run=run, first=first),
            (trained, jnp.array(True)),
            (batches, jnp.arange(len(batches))),
        )
        return trained, *seen

    return steps


def _scored(state: FitState, score: Array, val: Array, finite: Bool[Array, ""]) -> FitState:
    """The state after an epoch; of equal scores, the last epoch is the best."""
    better, best = finite & (score >= state.score), state.best
    if best is not None:
        best = optax.tree.where(better, state.trained.variables, best)
    epoch = state.epoch + finite
    return state.replace(
        best=best,
        score=jnp.where(better, score, state.score),
        val_accuracy=jnp.where(better, val, state.val_accuracy),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
        epoch=epoch,
    )
