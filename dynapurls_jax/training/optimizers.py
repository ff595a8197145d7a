"""Optimizers of the encoder's pretraining: a modern recipe, and the published one."""

import jax.numpy as jnp
import optax
from jax import tree
from ml_collections import ConfigDict

from data_pipelines.batches import steps_in_epoch

# The published recipe divides the rate by ten after these shares of all epochs.
STEPS = (60 / 140, 80 / 140, 100 / 140)


def adamw(settings: ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW: a warm-up of one epoch, a cosine to zero, decay of matrices alone, clipped gradients.

    Args:
      settings: `config.pretrain`.
    """
    total = settings.epochs * steps_per_epoch
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.learning_rate, min(steps_per_epoch, total // 2), total
    )
    return optax.chain(
        optax.clip_by_global_norm(5.0),
        optax.adamw(
            schedule,
            weight_decay=settings.weight_decay,
            mask=lambda params: tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


def sgd(settings: ConfigDict, steps_per_epoch: int) -> optax.GradientTransformation:
    """The recipe of Shift-GCN (Cheng et al., CVPR 2020): SGD with Nesterov momentum and steps.

    There the rate is 0.1 for batches of 64, the decay 1e-4 on all parameters, and of 140 epochs
    the 60th, 80th and 100th divide the rate by ten; other numbers of epochs keep the proportions.

    Args:
      settings: `config.pretrain`.
    """
    total = settings.epochs * steps_per_epoch
    schedule = optax.piecewise_constant_schedule(
        settings.learning_rate, {round(share * total): 0.1 for share in STEPS}
    )
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.sgd(schedule, momentum=0.9, nesterov=True),
    )


def sign_of_displacements() -> optax.GradientTransformation:
    """Of a gradient to a displacement in time only 0.01 of its sign, as in the published kernel.

    It comes before anything else, and after the devices' gradients are added up.
    """

    def update(grads, state, params=None):
        del params

        def signed(path, grad):
            moves = path[-1].key in ("shift_in", "shift_out")
            return 0.01 * jnp.sign(grad) if moves else grad

        return tree.map_with_path(signed, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


OPTIMIZERS = {"adamw": adamw, "sgd": sgd}


def encoder_optimizer(config: ConfigDict, count: int) -> optax.GradientTransformation:
    """The optimizer of a configuration for an encoder that is trained on `count` clips."""
    settings = config.pretrain
    steps = steps_in_epoch(count, min(settings.batch_size, count))
    optimizer = OPTIMIZERS[settings.optimizer](settings, steps)
    if not config.encoder.sign_gradient:
        return optimizer
    return optax.chain(sign_of_displacements(), optimizer)
