"""Stage 3: alignment of tokens with text on the seen classes; one dispatch an epoch.

Data parallel: each device keeps its part of the tokens, gets its part of each batch, and has all of
the parameters; `jax.jit` adds what must be added up.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict, FrozenConfigDict

from data_pipelines.progress import progress
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel, make_model, mean_text
from dynapurls_jax.zero_shot.oracle import oracle_logits
from dynapurls_jax.zero_shot.nn.partition import Text
from dynapurls_jax.training.nonfinite import report_alignment
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.loop import Loop, either
from dynapurls_jax.training.mesh import divide_rows, divided, everywhere, mesh_for


class AlignState(flax.struct.PyTreeNode):
    """Everything that alignment carries from epoch to epoch; arrays only, so it checkpoints."""

    variables: Variables
    opt_state: Any
    best: Variables
    best_accuracy: Any  # float32 []; Any, since JAX also fills pytrees with placeholders
    best_epoch: Any  # int32 []
    epoch: Any  # int32 []


class Samples(NamedTuple):
    """Tokens with their labels, on the host or on the devices.

    Attributes:
      tokens: `[N, S, n]` of the store's type; on devices filled up to a multiple of their number.
      labels: `[N]` positions in the text; -1 for what was filled up.
    """

    tokens: Any
    labels: Any


def model_of(config: ConfigDict, text_width: int) -> ZeroShotModel:
    """The zero-shot model of a configuration; the same object for the same settings."""
    return _model(FrozenConfigDict(config.alignment), text_width)


@lru_cache
def _model(settings: FrozenConfigDict, text_width: int) -> ZeroShotModel:
    return make_model(
        query=settings.query,
        head=settings.head,
        score=settings.score,
        granularities=settings.granularities,
        weights=settings.weights,
        text_width=text_width,
        attention=settings.attention,
        hidden=settings.hidden,
        dropout=settings.dropout,
    )


def align(
    config: ConfigDict,
    train: Samples,
    val: Samples,
    ids: Sequence[str],
    text: Float[Array, "C G d"],
    seed: int,
    checkpoints: Checkpoints,
    folder: Path,
    pool: Float[np.ndarray, "G S"] | None = None,
    profile: bool = False,
) -> tuple[Variables, dict]:
    """Trains until the accuracy on seen validation clips stops rising; goes on from a checkpoint.

    Args:
      train, val: on the host, perhaps on disk; labels are positions in `text`.
      ids: names of the training clips.
      text: `F` of the seen classes.
      folder: of the stage, for what it reports.
      pool: of a static partition; see `static_pool`.
      profile: write a trace of some epochs there.

    Returns:
      The variables of the best epoch, on the host, and `{"val_accuracy", "best_epoch", "epochs"}`.

    Raises:
      NonFiniteError: a loss or gradient is not a number.
    """
    settings = config.alignment
    model = model_of(config, text.shape[-1])
    size = min(settings.batch_size, len(train.labels))
    mesh = mesh_for(size, "alignment.batch_size")
    seen = jax.device_put(Text(text, mean_text(text)), everywhere(mesh))
    optimizer = optimizer_of(settings)
    given = [_on_devices(mesh, samples) for samples in (train, val)]

    def begin(train: Samples, seen: Text) -> AlignState:
        real = jnp.asarray(train.tokens, jnp.float32)[: len(ids)]
        variables = model.init(jax.random.key(seed), real, seen, pool)
        return AlignState(
            variables=variables,
            opt_state=optimizer.init(variables["params"]),
            best=jax.tree.map(jnp.copy, variables),  # the state is donated: no buffer twice
            best_accuracy=jnp.float32(-1),
            best_epoch=jnp.int32(0),
            epoch=jnp.int32(0),
        )

    if checkpoints.latest() is None:
        state = jax.jit(begin, out_shardings=everywhere(mesh))(given[0], seen)
    else:
        shapes = jax.eval_shape(begin, given[0], seen)
        state = jax.device_put(checkpoints.restore(shapes, on_host=True), everywhere(mesh))
    if not _finished(state, settings):
        root = jax.random.fold_in(jax.random.key(seed), 2)
        run_epoch = make_epoch(model, optimizer, (len(ids), size), settings.query, mesh)
        run_epoch = partial(run_epoch, root=root, train=given[0], val=given[1], text=seen)
        report_broken = partial(_report_broken, config, train, ids, text, pool, size, seed, folder)
        with Loop(folder, checkpoints, int(state.epoch), len(ids), report_broken, profile) as loop:
            state = _run(state, settings, run_epoch, loop)
    return jax.device_get(state.best), {
        "val_accuracy": float(state.best_accuracy),
        "best_epoch": int(state.best_epoch),
        "epochs": int(state.epoch),
    }


def optimizer_of(settings: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of `config.alignment`."""
    return optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)


def _on_devices(mesh: Mesh, samples: Samples) -> Samples:
    labels = divide_rows(mesh, np.asarray(samples.labels, np.int32) + 1) - 1  # filled up with -1
    return Samples(divide_rows(mesh, samples.tokens), labels)


def _run(state: AlignState, settings, run_epoch: Callable, loop: Loop) -> AlignState:
    title = f"aligning, {settings.query}"
    with progress(title, settings.epochs, int(state.epoch)) as report:
        while not _finished(state, settings):
            state, figures, batches = run_epoch(state)
            loop.after(state, figures, batches)
            best = float(state.best_accuracy)  # waits: whether to go on depends on it
            loop.log(state, epoch=float(state.epoch), best_val_accuracy=best)
            report(int(state.epoch), loss=float(figures["loss"].mean()), best_val=best)
        loop.save(state)
    return state


def _finished(state: AlignState, settings) -> bool:
    waited = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= settings.epochs or waited >= settings.patience


def _report_broken(config, train, ids, text, pool, size, seed, folder, epoch, state, batches):
    """Finds the first batch of the epoch that is not finite."""
    order, fine = (np.asarray(found) for found in batches)
    number = int(np.argmin(fine))
    rows = order.reshape(-1, size)[number]
    arrays = {"tokens": np.asarray(train.tokens[rows]), "labels": np.asarray(train.labels)[rows]}
    arrays |= {"text": np.asarray(text)} | ({} if pool is None else {"pool": pool})
    report_alignment(config, seed, folder, number, state, [ids[row] for row in rows], arrays)


def make_epoch(
    model: ZeroShotModel, optimizer, counts: tuple[int, int], query: str, mesh: Mesh
) -> Callable:
    """The jitted epoch `(state, root key, train, val, text) -> (state, figures, batches)`.

    A scan over shuffled whole minibatches, then the validation, in one dispatch. `figures` are each
    batch's loss and norm of the gradient, and the accuracy on `val`; if one of them is not finite
    the state stays as it was before that batch. `batches` are the rows of all batches, and which
    batches are finite.

    Args:
      counts: training samples, and those of a minibatch.
    """
    count, size = counts

    def step(carry, batch, train, text, key):
        variables, opt_state, fine = carry
        index, number = batch
        # Each device has the rows of its part alone; those of a batch are divided anew.
        tokens = jax.lax.with_sharding_constraint(train.tokens[index], divided(mesh))
        labels = jax.lax.with_sharding_constraint(train.labels[index], divided(mesh))

        def loss_fn(params):
            both = {**variables, "params": params}
            key_of_batch = jax.random.fold_in(key, number + 1)
            return model.loss(both, jnp.asarray(tokens, jnp.float32), labels, text, key_of_batch)

        loss, grads = jax.value_and_grad(loss_fn)(variables["params"])
        norm = optax.tree.norm(grads)
        fine = fine & jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, new_opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        after = ({**variables, "params": params}, new_opt_state)
        variables, opt_state = either(fine, after, (variables, opt_state))
        return (variables, opt_state, fine), (loss, norm, fine)

    @partial(jax.jit, donate_argnums=0, out_shardings=everywhere(mesh))
    def run_epoch(state: AlignState, root, train: Samples, val: Samples, text: Text):
        key = jax.random.fold_in(root, state.epoch)
        order = jax.random.permutation(key, count)[: count // size * size]
        batches = order.reshape(-1, size)
        (variables, opt_state, fine), (losses, norms, fines) = jax.lax.scan(
            partial(step, train=train, text=text, key=key),
            (state.variables, state.opt_state, jnp.array(True)),
            (batches, jnp.arange(len(batches))),
        )
        accuracy = validation_accuracy(model, variables, val, text, query)
        better = fine & (accuracy > state.best_accuracy)
        epoch = state.epoch + fine
        after = AlignState(
            variables=variables,
            opt_state=opt_state,
            best=either(better, variables, state.best),
            best_accuracy=jnp.where(better, accuracy, state.best_accuracy),
            best_epoch=jnp.where(better, epoch, state.best_epoch),
            epoch=epoch,
        )
        figures = {"loss": losses, "grad_norm": norms, "val_accuracy": accuracy}
        return after, figures, (order, fines)

    return run_epoch


def validation_accuracy(
    model: ZeroShotModel, variables: Variables, val: Samples, text: Text, query: str
) -> Float[Array, ""]:
    """Share of the validation samples whose class is found; the published protocol as it tests."""
    visual = model.encode(variables, jnp.asarray(val.tokens, jnp.float32))
    if query == "oracle_label":
        logits = oracle_logits(model, variables, visual, text, val.labels)
    else:
        logits = model.score(variables, visual, text)
    real = val.labels >= 0
    return jnp.sum((logits.argmax(-1) == val.labels) & real) / jnp.maximum(real.sum(), 1)
