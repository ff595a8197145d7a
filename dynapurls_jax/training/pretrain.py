"""Stage 1: Shift-GCN on the seen classes' training clips, with cross-entropy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_pipelines.batches import epoch_batches
from data_pipelines.prepared import PreparedClips
from data_pipelines.preprocess import Augmentation, augment, to_streams
from data_pipelines.progress import progress
from dynapurls_jax.encoders.compiled import jit
from dynapurls_jax.encoders.persons import capacity_for
from dynapurls_jax.encoders.shift_gcn import ShiftGCN
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.optimizers import OPTIMIZERS

CHECKPOINT_EVERY = 5  # epochs


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
        sign_gradient=settings.sign_gradient,
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
) -> dict:
    """Trains to the last epoch, going on from the newest checkpoint; no choice of epoch is made.

    Args:
      clips: of the whole corpus.
      rows: `[n]` those that are trained on.
      labels: `[n]` in `[0, num_classes)`: positions among the seen classes.

    Returns:
      Encoder variables.
    """
    settings = config.pretrain
    encoder = encoder_of(config, num_classes)
    steps_per_epoch = max(1, len(labels) // min(settings.batch_size, len(labels)))
    optimizer = OPTIMIZERS[settings.optimizer](settings, steps_per_epoch)

    def fresh() -> PretrainState:
        shape = (1, *clips.clips.shape[1:-1], 3 * len(config.data.streams))
        variables = encoder.init(jax.random.key(seed), jnp.ones(shape))
        opt_state = optimizer.init(variables["params"])
        step = jnp.zeros((), jnp.int32)
        return PretrainState(variables["params"], variables["batch_stats"], opt_state, step)

    first = checkpoints.latest() or 0
    # A finished stage is only loaded: nothing is compiled for it.
    state = checkpoints.restore(jax.eval_shape(fresh)) if first else jax.jit(fresh)()
    if first < settings.epochs:
        state = _run_epochs(
            config, encoder, optimizer, state, (clips, rows, labels), seed, checkpoints
        )
    return {"params": state.params, "batch_stats": state.batch_stats}


def _run_epochs(config, encoder, optimizer, state, data, seed, checkpoints) -> PretrainState:
    """The epochs that are left after the newest checkpoint."""
    settings, first = config.pretrain, checkpoints.latest() or 0
    clips, rows, labels = data
    streams = streams_of(config, clips)
    step = make_step(encoder, optimizer, Augmentation(**config.augment), streams)
    root = jax.random.fold_in(jax.random.key(seed), 1)
    with progress("pretraining the encoder", settings.epochs, first) as report:
        for epoch in range(first, settings.epochs):
            losses = []
            for batch in epoch_batches(clips.clips, rows, labels, settings.batch_size, seed, epoch):
                capacity = capacity_for(batch["clips"])
                state, loss = step(state, batch["clips"], batch["labels"], root, capacity)
                losses.append(loss)
            report(epoch + 1, loss=float(np.mean(losses)))
            if (epoch + 1) % CHECKPOINT_EVERY == 0 or epoch + 1 == settings.epochs:
                checkpoints.save(epoch + 1, state)
    return state


def streams_of(config: ConfigDict, clips: PreparedClips) -> Callable:
    """`to_streams` of a configuration: `[B, M, T, V, 3]` to `[B, M, T, V, c]`."""
    return partial(to_streams, streams=config.data.streams, parents=clips.skeleton.parents)


def make_step(encoder: ShiftGCN, optimizer, strength: Augmentation, streams: Callable):
    """The jitted training step `(state, clips, labels, root key, capacity) -> (state, loss)`."""

    @partial(jit, donate_argnums=0, static_argnums=4)
    def step(state: PretrainState, clips, labels, root, capacity):
        clips = streams(augment(clips, jax.random.fold_in(root, state.step), strength))

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updated = encoder.apply(
                variables, clips, True, capacity, mutable=["batch_stats"]
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return PretrainState(params, batch_stats, opt_state, state.step + 1), loss

    return step
