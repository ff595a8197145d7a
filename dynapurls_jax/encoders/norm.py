"""Batch normalisation over present persons, its statistics in float32.

Flax's own `BatchNorm` takes a mask too, but wants channels last and writes its input in float32.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Moments = tuple[Array, Array]  # mean and variance, [channels] or [channels, V]


def moments(
    x: Float[Array, "channels T V N"], mask: Bool[Array, " N"], per_joint: bool = False
) -> Moments:
    """Mean and variance of each channel, or of each joint's each channel, float32.

    Args:
      mask: the persons that count.
    """
    _, frames, joints, _ = x.shape
    axes, count = ((1,), frames) if per_joint else ((1, 2), frames * joints)
    weight = mask / jnp.maximum(mask.sum() * count, 1)
    wide = x.astype(jnp.float32)
    mean = wide.sum(axis=axes) @ weight
    square = (wide * wide).sum(axis=axes) @ weight
    return mean, jnp.maximum(square - mean * mean, 0)


class Norm(nn.Module):
    """Normalises by the moments of a batch, or by running ones.

    Parameters and statistics are kept joint by joint, as the published checkpoints keep them.
    """

    per_joint: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "channels T V N"], batch: Moments | None):
        """Normalises `x` by the batch's moments; None: by the running ones."""
        channels, _, joints, _ = x.shape
        features = channels * joints if self.per_joint else channels
        scale = self.param("scale", nn.initializers.ones, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        running = [
            self.variable("batch_stats", "mean", jnp.zeros, (features,)),
            self.variable("batch_stats", "var", jnp.ones, (features,)),
        ]
        if batch is None:
            mean, var = (statistic.value for statistic in running)
        else:
            mean, var = (moment.T.reshape(features) for moment in batch)
            if not self.is_initializing():
                for statistic, value in zip(running, (mean, var), strict=True):
                    kept = self.momentum * statistic.value
                    statistic.value = kept + (1 - self.momentum) * value
        gain = scale * jax.lax.rsqrt(var + self.epsilon)

        def spread(values):
            return values.reshape(-1, channels).T[:, None, :, None]

        return (x * spread(gain) + spread(bias - mean * gain)).astype(x.dtype)
