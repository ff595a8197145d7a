"""Optimizers for pretraining the encoder: AdamW with a cosine schedule, and the published SGD."""

from dataclasses import dataclass

import optax
from jax import tree

from data_pipelines.batches import steps_in_epoch
from dynapurls_jax.registry import check_at_least, check_choice

LOSSES = ("cross_entropy", "imagined")
STATISTICS = ("batch", "device")
# The published recipe divides the rate by ten after these shares of all epochs.
STEPS = (60 / 140, 80 / 140, 100 / 140)


@dataclass(frozen=True)
class PretrainSettings:
    """The settings of stage 1.

    Attributes:
      optimizer: "adamw", or "sgd" for the published recipe.
      learning_rate: peak learning rate.
      loss: "cross_entropy" with a linear classifier, or "imagined": cross-entropy over cosines with
        the classes' animated motion sketches (`training.classifiers`).
      statistics: batch normalisation over the whole "batch", or over the shard of each "device".
        The latter needs one all-reduce for each step instead of two for each normalisation, and
        its results depend on the number of devices.
    """

    epochs: int = 40
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    loss: str = "cross_entropy"
    statistics: str = "batch"

    def __post_init__(self):
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("loss", self.loss, LOSSES)
        check_choice("statistics", self.statistics, STATISTICS)
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size)


def adamw(settings: PretrainSettings, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW: one epoch of warm-up, cosine decay to zero, weight decay of matrices, clipping."""
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


def sgd(settings: PretrainSettings, steps_per_epoch: int) -> optax.GradientTransformation:
    """The recipe of Shift-GCN (Cheng et al., CVPR 2020): SGD, Nesterov momentum, step decay.

    The paper uses a learning rate of 0.1 for batches of 64, a weight decay of 1e-4 on all
    parameters, and divides the rate by ten after epochs 60, 80 and 100 of 140. Other numbers of
    epochs keep these proportions.
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


def encoder_optimizer(settings: PretrainSettings, count: int) -> optax.GradientTransformation:
    """The optimizer for pretraining on `count` clips."""
    steps = steps_in_epoch(count, min(settings.batch_size, count))
    return OPTIMIZERS[settings.optimizer](settings, steps)
