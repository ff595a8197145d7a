"""The program of an epoch of stage 3, for several runs at once.

One dispatch trains the models of all runs and their folds on shuffled minibatches, and evaluates
them. The runs are a leading axis of the state: `jax.vmap` on accelerators, and one after the other
on a CPU, where products of small stacked matrices are slower than those of one matrix each.

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

from dynapurls_jax.training.folds import (
    Folds,
    classes_of,
    fewest_samples,
    held_out_accuracy,
    relabelled,
    shuffled,
)
from dynapurls_jax.training.mesh import divided, everywhere
from dynapurls_jax.training.method_task import (
    FitSettings,
    MethodTask,
    Samples,
    validation_accuracy,
)
from dynapurls_jax.zero_shot.base import Variables

# Momentum of the moving average of held-out accuracies, from 0; a fold has few clips.
SMOOTHING = 0.8


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
      folds: of the run.
    """

    root: PRNGKeyArray
    rate: Any
    folds: Folds


class Trained(NamedTuple):
    """Variables and optimizer state of one model."""

    variables: Variables
    opt_state: Any


class FitState(flax.struct.PyTreeNode):
    """The state of a run between epochs; a pytree of arrays, as checkpoints need."""

    trained: Any  # `Trained`
    folds: Any  # `Trained` with a leading axis; None without folds
    best: Variables
    accuracy: Any  # on held-out classes, smoothed over epochs, float32 []
    best_accuracy: Any  # the highest `accuracy`, float32 []
    val_accuracy: Any  # on validation clips of seen classes after `best_epoch`, float32 []
    best_epoch: Any  # int32 []
    epoch: Any  # int32 []


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


def fresh_state(
    task: MethodTask, root: PRNGKeyArray, tokens: Array, text: Any, folds: Folds
) -> FitState:
    """The state of one run before the first epoch.

    Args:
      root: key of the initial variables.
      tokens: `[N, S, n]` of the training samples; may be padded.
    """
    real = jnp.asarray(tokens, jnp.float32)[: len(task.ids)]
    kept = jnp.asarray(folds.kept)

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


def finished(state: FitState, settings: FitSettings) -> Bool[Array, "*R"]:
    """Whether runs have had all epochs, or wait too long for a higher accuracy on held-out classes.

    The published protocol trains for all epochs.
    """
    waited = (state.epoch - state.best_epoch >= settings.patience) & (
        not settings.published_protocol
    )
    return (state.epoch >= settings.epochs) | waited


def make_epoch(task: MethodTask, mesh: Mesh) -> Callable:
    """The jitted epoch `(states, runs, data) -> (states, figures, batches)`.

    States and runs (`Run`) have a leading axis of the runs. A finished run does not change.
    `figures` has the loss and gradient norm of each batch and the accuracies. From the first batch
    with a non-finite loss or gradient on, the state does not change. `batches` has the sample
    indices of all batches, a flag for each batch, whether it and all before it are finite, and a
    flag for the whole epoch.
    """
    epoch = make_run_epoch(task, mesh)

    def unless_finished(data: Data, state: FitState, run: Run):
        skipped = jax.tree.map(
            lambda leaf: jnp.ones(leaf.shape, leaf.dtype),
            jax.eval_shape(epoch, state, run, data)[1:],
        )
        return jax.lax.cond(
            finished(state, task.settings),
            lambda: (state, *skipped),
            lambda: epoch(state, run, data),
        )

    @partial(jax.jit, donate_argnums=0, out_shardings=everywhere(mesh))
    def run_epoch(states: FitState, runs: Run, data: Data):
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


def make_run_epoch(task: MethodTask, mesh: Mesh) -> Callable:
    """The epoch of one run, see `make_epoch`."""
    method, count, size = task.method, len(task.ids), task.batch_size
    step, published = make_step(task, mesh), task.settings.published_protocol

    def of_fold(run: Run, epoch, data: Data, numbered):
        number, fold, trained = numbered
        (train, _, text, _), key = data, jax.random.fold_in(run.root, number)
        fewest = fewest_samples(task.train.labels, held=len(fold.held))
        batch = min(size, fewest)
        order = shuffled(key, fold.train, fewest // batch * batch)
        own = relabelled(train, fold.kept, len(jax.tree.leaves(text)[0]))
        kept = classes_of(text, fold.kept)
        batches = order.reshape(-1, batch)
        numbers = (epoch * len(batches), batches)
        run = run._replace(root=key)
        trained, _, _, each_finite = step(trained, own, kept, run, *numbers)
        share = held_out_accuracy(method, trained.variables, train, fold, text)
        return trained, jnp.where(each_finite.all(), share, jnp.nan)

    def run_epoch(state: FitState, run: Run, data: Data):
        key, folds = jax.random.fold_in(run.root, state.epoch), run.folds
        order = jax.random.permutation(key, count)[: count // size * size]
        batches = order.reshape(-1, size)
        numbers = (state.epoch * len(batches), batches)
        trained, losses, norms, each_finite = step(
            state.trained, data.train, data.text, run._replace(root=key), *numbers
        )
        figures = {"loss": losses, "grad_norm": norms}
        figures["val_accuracy"] = validation_accuracy(
            method, trained.variables, data.val, data.text
        )
        trained_folds, score = state.folds, jnp.float32(0)
        if len(folds.held):
            numbered = (jnp.arange(len(folds.held)), folds, state.folds)
            of_folds = run._replace(root=jax.random.fold_in(key, count))
            one = partial(of_fold, of_folds, state.epoch, data)
            trained_folds, shares = jax.lax.map(one, numbered)
            figures["held_out_accuracy"] = score = shares.mean()
        if data.published is not None:
            score = validation_accuracy(method, trained.variables, *data.published)
        after = state.replace(trained=trained, folds=trained_folds)
        finite = each_finite.all() & jnp.isfinite(score)
        smoothing = 0.0 if published else SMOOTHING
        after = _scored(after, score, figures["val_accuracy"], finite, smoothing)
        return after, figures, (order, each_finite, finite)

    return run_epoch


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


def _scored(
    state: FitState, score: Array, val: Array, finite: Bool[Array, ""], smoothing: float
) -> FitState:
    """The state after an epoch; `best` is replaced if no earlier epoch has a higher accuracy.

    The last of equally accurate epochs is kept, so that training does not stop early when held-out
    classes are easy.
    """
    score = smoothing * state.accuracy + (1 - smoothing) * score
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
