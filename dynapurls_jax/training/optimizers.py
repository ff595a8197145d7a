"""Optimizers of the encoder's pretraining: a modern recipe, and the published one."""

import optax
from jax import tree
from ml_collections import ConfigDict

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


OPTIMIZERS = {"adamw": adamw, "sgd": sgd}
