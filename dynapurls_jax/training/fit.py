"""Stage 3: a zero-shot method on the seen classes: a closed form, or epochs of its loss.

Data parallel: each device keeps its part of the tokens, gets its part of each batch, and has all of
the parameters; `jax.jit` adds the reductions. An epoch is one dispatch.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from data_pipelines.progress import progress
from dynapurls_jax.registry import check_at_least, plain, settings_of
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.checkpoints import Checkpoints, open_checkpoints
from dynapurls_jax.training.loop import Loop
from dynapurls_jax.training.mesh import divide_rows, divided, everywhere, mesh_for
from dynapurls_jax.training.nonfinite import report_fit
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.training.stages import identity_hash, open_stage, stage_folder
from dynapurls_jax.trees import select
from dynapurls_jax.zero_shot.base import Shapes, Variables, ZeroShotMethod
from dynapurls_jax.zero_shot.registry import make_method


@dataclass(frozen=True)
class FitSettings:
    """The settings of a method that is trained.

    Attributes:
      patience: epochs without a higher accuracy on seen validation clips, after which it ends.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 256
    epochs: int = 300
    patience: int = 20

    def __post_init__(self):
        """Refuses values that cannot be used."""
        check_at_least(1, batch_size=self.batch_size, epochs=self.epochs, patience=self.patience)


class FitState(flax.struct.PyTreeNode):
    """Everything that training carries from epoch to epoch; arrays only, so it checkpoints."""

    variables: Variables
    opt_state: Any
    best: Variables
    best_accuracy: Any  # float32 []; Any, since JAX also fills pytrees with placeholders
    best_epoch: Any  # int32 []
    epoch: Any  # int32 []


class Samples(NamedTuple):
    """Tokens with their labels, on the host or on the devices.

    Attributes:
      tokens: `[N, S, n]` of the store's type; on devices padded to a multiple of their number.
      labels: `[N]` positions in the text; -1 for padding.
    """

    tokens: Any
    labels: Any


@dataclass(frozen=True)
class MethodTask:
    """What stage 3 fits, on what.

    Attributes:
      train, val: on the host, perhaps on disk; labels are positions in `text`.
      text: `F` of the seen classes.
      ids: names of the training clips.
      record: the configuration as JSON, kept with a step that is not finite.
    """

    method: ZeroShotMethod
    settings: FitSettings
    shapes: Shapes
    train: Samples
    val: Samples
    text: Float[np.ndarray, "C G d"]
    ids: Sequence[str]
    seed: int
    record: dict

    @property
    def batch_size(self) -> int:
        """Samples in a minibatch."""
        return min(self.settings.batch_size, len(self.train.labels))


class FittedMethod(NamedTuple):
    """A method with its variables, on the device, and the results of its stage."""

    method: ZeroShotMethod
    variables: Variables
    results: dict


def method_identity(spec: RunSpec, tokens_identity: dict) -> dict:
    """Everything that the method of a run depends on.

    Args:
      tokens_identity: of the stage that made the tokens; with the hash of the encoder's weights.
    """
    name = spec.config.method.name
    return {
        "method": plain(spec.config.method, "name", name),
        "fit": plain(spec.config, "fit")["fit"],
        "tokens": identity_hash(tokens_identity),
        "texts": spec.inputs.text_digest,
    } | spec.identity()


def method_folder(spec: RunSpec, tokens_identity: dict) -> Path:
    """The folder of a run's method stage."""
    identity = method_identity(spec, tokens_identity)
    return stage_folder(spec.folder / "methods", spec.config.method.name, identity)


def shapes_of(spec: RunSpec, tokens: np.ndarray) -> Shapes:
    """What the method of a run is built for; `tokens` are `[N, T', P, n]`."""
    segments, points, width = tokens.shape[1:]
    text_width = spec.inputs.text.shape[-1]
    return Shapes(spec.inputs.skeleton, (segments, points, width), text_width)


def fit_method(spec: RunSpec, tokens: np.ndarray, tokens_identity: dict) -> FittedMethod:
    """Fits the method of a run, or restores it.

    Args:
      tokens: of all clips of the corpus, `[N, T', P, n]`.
      tokens_identity: see `method_identity`.
    """
    shapes, protocol = shapes_of(spec, tokens), spec.protocol
    flat = tokens.reshape(len(tokens), -1, tokens.shape[-1])
    train, val = (
        Samples(flat[indices], spec.seen_labels[indices].astype(np.int32))
        for indices in (protocol.train, protocol.val)
    )
    task = MethodTask(
        method=make_method(spec.config.method, shapes),
        settings=settings_of(FitSettings, spec.config.fit, "fit"),
        shapes=shapes,
        train=train,
        val=val,
        text=spec.inputs.text[protocol.seen],
        ids=[spec.inputs.corpus.clip_ids[i] for i in protocol.train],
        seed=spec.seed,
        record=plain(spec.config, *spec.config),
    )
    name = spec.config.method.name
    stage = open_stage(spec.folder / "methods", name, method_identity(spec, tokens_identity))
    with closing(open_checkpoints(stage)) as checkpoints:
        run = solve if task.method.fit else train_method
        variables, results = run(task, checkpoints, stage.folder, spec.profile)
    if stage.results is None:
        stage.finish(results)
    results = stage.results or {}
    when = f" at epoch {results['best_epoch']}" if "best_epoch" in results else ""
    print(f"  {name}: seen validation accuracy {results['val_accuracy']:.3f}{when}", flush=True)
    return FittedMethod(task.method, jax.device_put(variables), results)


def solve(
    task: MethodTask, checkpoints: Checkpoints, folder: Path, profile: bool = False
) -> tuple[Variables, dict]:
    """The closed form of a method on all seen clips, or its restored variables.

    The accuracy on validation clips is that of the training clips' solution: nothing is chosen by
    it, so the validation clips are fitted in the end, too.
    """
    del folder, profile
    fit = task.method.fit
    assert fit is not None

    def solution(train: Samples, val: Samples, text) -> tuple[Variables, Array]:
        key = key_of(task.seed, "method_init")
        train, val = (Samples(jnp.asarray(s.tokens, jnp.float32), s.labels) for s in (train, val))
        both = Samples(*(jnp.concatenate(pair) for pair in zip(train, val, strict=True)))
        on_train = fit(key, train.tokens, train.labels, text)
        share = validation_accuracy(task.method, on_train, val, text)
        return fit(key, both.tokens, both.labels, text), share

    samples = (task.train, task.val, task.text)
    if checkpoints.latest() is None:
        variables, share = jax.device_get(jax.jit(solution)(*samples))
        checkpoints.save(1, (variables, share))
    else:
        variables, share = checkpoints.restore(jax.eval_shape(solution, *samples), on_host=True)
    return variables, {"val_accuracy": float(share)}


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
        variables, opt_state = select(finite, after, (variables, opt_state))
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
        best=select(better, variables, state.best),
        best_accuracy=jnp.where(better, accuracy, state.best_accuracy),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
        epoch=epoch,
    )


def validation_accuracy(
    method: ZeroShotMethod, variables: Variables, val: Samples, text: Float[Array, "C G d"]
) -> Float[Array, ""]:
    """Share of the validation samples that are recognised; with `oracle`, the published one."""
    features = method.encode(variables, jnp.asarray(val.tokens, jnp.float32))
    candidates = method.bind(variables, text)
    if method.oracle is None:
        logits = method.score(variables, features, candidates)
    else:
        logits = method.oracle(variables, features, candidates, val.labels)
    real = val.labels >= 0
    return jnp.sum((logits.argmax(-1) == val.labels) & real) / jnp.maximum(real.sum(), 1)
