"""Stage 1: Shift-GCN on the seen classes' training clips, with cross-entropy.

Data parallel: the devices divide each batch, normalise by the statistics of all of it, and add up
their gradients, so that any number of them computes the same step.
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
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipelines.batches import epoch_batches, steps_in_epoch
from data_pipelines.prepared import PreparedClips
from data_pipelines.preprocess import Augmentation, augment, to_streams
from data_pipelines.progress import progress
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.encoders.shift_gcn import ShiftGCN
from dynapurls_jax.training.nonfinite import report_pretraining
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.loop import Loop, either
from dynapurls_jax.training.mesh import (
    BATCH,
    DIVIDED,
    WHOLE,
    divide,
    divided,
    everywhere,
    mesh_for,
    own_part,
)
from dynapurls_jax.training.optimizers import encoder_optimizer


class PretrainState(flax.struct.PyTreeNode):
    """Everything that pretraining carries from step to step."""

    params: Any
    batch_stats: Any
    opt_state: Any
    step: Any  # int32 []; Any, since JAX also fills pytrees with placeholders


def encoder_of(config: ConfigDict, num_classes: int) -> ShiftGCN:
    """The encoder of a configuration."""
    settings = config.encoder
    return ShiftGCN(
        num_classes,
        settings.width,
        settings.segments,
        dtype=jnp.dtype(settings.dtype),
        remat=settings.remat,
    )


def encoder_of_variables(config: ConfigDict, variables: dict) -> ShiftGCN:
    """The encoder that has these variables."""
    return encoder_of(config, variables["params"]["classifier"]["bias"].shape[0])


def pretrain(
    config: ConfigDict,
    clips: PreparedClips,
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    seed: int,
    checkpoints: Checkpoints,
    folder: Path,
    profile: bool = False,
) -> dict:
    """Trains to the last epoch, going on from the newest checkpoint; no choice of epoch is made.

    Args:
      clips: of the whole corpus.
      rows: `[n]` those that are trained on.
      labels: `[N]` of the whole corpus: positions among the seen classes, in `[0, num_classes)` for
        the rows that are trained on.
      folder: of the stage, for what it reports.
      profile: write a trace of some steps there.

    Returns:
      Encoder variables, on the host.

    Raises:
      NonFiniteError: a loss or gradient is not a number.
    """
    settings = config.pretrain
    size = min(settings.batch_size, len(rows))
    steps = settings.epochs * steps_in_epoch(len(rows), size)
    mesh = mesh_for(size, "pretrain.batch_size")
    begin = partial(fresh_state, config, clips.clips.shape, num_classes, seed, len(rows))
    if checkpoints.latest() is None:
        state = jax.jit(begin, out_shardings=everywhere(mesh))()
    else:  # a finished stage is only loaded: nothing is compiled for it
        state = checkpoints.restore(jax.eval_shape(begin), on_host=True)
    if int(state.step) < steps:
        state = jax.device_put(state, everywhere(mesh))
        run = partial(_run, config, clips, rows, labels, num_classes, seed, checkpoints, folder)
        state = run(profile, mesh, state)
    return jax.device_get({"params": state.params, "batch_stats": state.batch_stats})


def fresh_state(
    config: ConfigDict, shape: tuple[int, ...], num_classes: int, seed: int, count: int
) -> PretrainState:
    """The state before the first step.

    Args:
      shape: of the corpus's clips, `(N, M, T, V, 3)`.
      count: of training clips.
    """
    encoder = encoder_of(config, num_classes)
    one = (1, *shape[1:-1], 3 * len(config.data.streams))
    variables = encoder.init(jax.random.key(seed), jnp.ones(one))
    opt_state = encoder_optimizer(config, count).init(variables["params"])
    step = jnp.zeros((), jnp.int32)
    return PretrainState(variables["params"], variables["batch_stats"], opt_state, step)


def _run(
    config, clips, rows, labels, num_classes, seed, checkpoints, folder, profile, mesh, state
) -> PretrainState:
    """The steps that are left after the newest checkpoint."""
    settings = config.pretrain
    size, most = min(settings.batch_size, len(rows)), clips.clips.shape[1]
    part, in_epoch = own_part(mesh, size), steps_in_epoch(len(rows), size)
    step = make_step(config, clips, num_classes, len(rows), mesh)
    root = jax.random.fold_in(jax.random.key(seed), 1)
    number = int(state.step)
    report_broken = partial(report_pretraining, config, clips, rows, labels, seed, folder)
    with (
        progress("pretraining the encoder", settings.epochs, number // in_epoch) as report,
        Loop(folder, checkpoints, number, size, report_broken, profile) as loop,
    ):
        while number < settings.epochs * in_epoch:
            epoch, done = divmod(number, in_epoch)
            batches = epoch_batches(clips.clips, rows, size, seed, epoch, done, part)
            for batch in loop.reading(batches):
                capacity = capacity_for(clips.persons[batch.rows], most, mesh.size)
                own = divide(mesh, (batch.own, labels[batch.rows[part]]))
                state, figures = step(state, *own, root, np.int32(number), capacity)
                loop.after(state, figures, (batch, capacity))
                number += 1
            loop.log(state, epoch=epoch + 1.0)
            report(epoch + 1, loss=float(figures["loss"]))
        loop.save(state)
    return state


def streams_of(config: ConfigDict, clips: PreparedClips) -> Callable:
    """`to_streams` of a configuration: `[B, M, T, V, 3]` to `[B, M, T, V, c]`."""
    return partial(to_streams, streams=config.data.streams, parents=clips.skeleton.parents)


def make_step(
    config: ConfigDict, clips: PreparedClips, num_classes: int, count: int, mesh: Mesh
) -> Callable:
    """The jitted step `(state, clips, labels, root key, number, capacity) -> (state, figures)`.

    Clips and labels are divided over the mesh, all else is everywhere; `number` is the step's, and
    `capacity` each device's. `figures` are the loss and the norm of the gradient; if either is not
    finite the state stays as it was, see `training.loop`.

    Args:
      count: of training clips.
    """
    encoder = encoder_of(config, num_classes).clone(axis=BATCH)
    optimizer = encoder_optimizer(config, count)
    strength, streams = Augmentation(**config.augment), streams_of(config, clips)

    def of_one_device(params, batch_stats, clips, labels, keys, capacity):
        clips = streams(augment(clips, keys, strength))

        def loss_fn(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updated = encoder.apply(
                variables, clips, True, capacity, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.sum() / (len(labels) * mesh.size), updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        # Without checks of what varies, what is added up going forward is added up going back too:
        # these are gradients of the whole loss, by way of this device's parameters.
        own, unravel = ravel_pytree((loss, grads))  # one message, whatever the compiler joins
        return unravel(jax.lax.psum(own, BATCH)), batch_stats

    @partial(jit, donate_argnums=0, static_argnums=5)
    def step(state: PretrainState, clips, labels, root, number, capacity):
        keys = jax.random.split(jax.random.fold_in(root, state.step), len(clips))
        keys = jax.lax.with_sharding_constraint(keys, divided(mesh))
        (loss, grads), batch_stats = jax.shard_map(
            partial(of_one_device, capacity=capacity),
            mesh=mesh,
            in_specs=(WHOLE, WHOLE, DIVIDED, DIVIDED, DIVIDED),
            out_specs=((WHOLE, WHOLE), WHOLE),
            check_vma=False,
        )(state.params, state.batch_stats, clips, labels, keys)
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        after = PretrainState(params, batch_stats, opt_state, state.step + 1)
        counts = jnp.isfinite(loss) & jnp.isfinite(norm) & (state.step == number)
        return either(counts, after, state), {"loss": loss, "grad_norm": norm}

    return step
