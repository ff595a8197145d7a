"""Batch normalisation over present persons, with statistics in float32.

Statistics are those of the global batch, even if its persons are sharded over devices. Flax's
`BatchNorm` also takes a mask, but expects channels last and converts its input to float32.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Moments = tuple[Array, Array]  # mean and variance, [channels] or [channels, V]


class BatchStatistics(flax.struct.PyTreeNode):
    """The weights of persons in batch statistics.

    Attributes:
      share: each person's weight in the mean over the present persons of all devices; 0 if absent.
      axis: name of the mesh axis over which persons are sharded; None on one device.
    """

    share: Float[Array, " N"]
    axis: str | None = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, mask: Bool[Array, " N"], axis: str | None = None) -> "BatchStatistics":
        """Equal weights of the present persons; `mask` is True for these."""
        number = mask.sum()
        number = number if axis is None else jax.lax.psum(number, axis)
        return cls(mask / jnp.maximum(number, 1), axis)

    def moments(self, x: Float[Array, "channels T V N"], per_joint: bool = False) -> Moments:
        """Mean and variance of each channel `[channels]`, or per joint `[channels, V]`, float32."""
        axes = (1,) if per_joint else (1, 2)
        weight = self.share / np.prod([x.shape[axis] for axis in axes])
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        sums = jnp.stack([wide.sum(axis=axes) @ weight, (wide * wide).sum(axis=axes) @ weight])
        return self.of_all(sums)

    def of_all(self, sums: Float[Array, "2 *shape"]) -> Moments:
        """Mean and variance from this device's weighted sums of values and of their squares."""
        mean, square = sums if self.axis is None else jax.lax.psum(sums, self.axis)
        return mean, jnp.maximum(square - mean * mean, 0)


class BatchNorm(nn.Module):
    """Normalises by the moments of a batch, or by running ones.

    Parameters and statistics are stored joint by joint, as in the published checkpoints.

    Attributes:
      per_joint: normalise each channel at each joint separately.
      momentum: weight of the old running statistics in an update.
      scale_init: of the gain.
    """

    per_joint: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    def __call__(self, x: Float[Array, "channels T V N"], batch: Moments | None):
        """`x`, normalised by the moments of the batch, or for None by the running ones."""
        gain, offset = self.affine(x.shape[0], x.shape[2], batch)
        return (x * gain[:, None, :, None] + offset[:, None, :, None]).astype(x.dtype)

    @nn.compact
    def affine(self, channels: int, joints: int, batch: Moments | None) -> tuple[Array, Array]:
        """Gain and offset of each channel at each joint, `[channels, V or 1]`, float32."""
        features = channels * joints if self.per_joint else channels
        scale = self.param("scale", self.scale_init, (features,))
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
        return gain.reshape(-1, channels).T, (bias - mean * gain).reshape(-1, channels).T
