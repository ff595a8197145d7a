"""Shift-GCN (Cheng et al., CVPR 2020): a skeleton encoder of shifts and 1x1 maps, for any V.

Cost at full size (width 64, T = 300, V = 25, M = 2): about 3.6 GMAC a clip; it scales with
T * V * M and with the square of the width.
"""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dynapurls_jax.encoders.shifts import spatial_shift, temporal_shift

# Width multiple and temporal stride of the ten layers.
LAYERS = ((1, 1),) * 4 + ((2, 2), (2, 1), (2, 1)) + ((4, 2), (4, 1), (4, 1))
TEMPORAL_STRIDE = 4


def token_width(width: int) -> int:
    """Channels `n` of the tokens that an encoder of this base width gives."""
    return width * LAYERS[-1][0]


def present_persons(clips: Float[Array, "B M T V 3"]) -> Bool[Array, "B M"]:
    """A person whose coordinates are all exactly zero is absent."""
    return jnp.any(clips != 0, axis=(2, 3, 4))


def _uniform(scale):
    def init(key, shape, dtype=jnp.float32):
        return nn.initializers.uniform(2 * scale)(key, shape, dtype) - scale

    return init


class Norm(nn.Module):
    """Batch normalisation over all axes but the last `axes`, ignoring absent persons.

    Flax's own `BatchNorm` takes a mask too, but reduces with selects; here the statistics are two
    matrix-vector products with the mask as the vector.
    """

    axes: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """Normalises `x` `[N, T, V, channels]`; `mask` `[N]` marks the rows that count."""
        shape = x.shape
        features = int(np.prod(shape[-self.axes :]))
        flat = x.reshape(-1, features)
        scale = self.param("scale", nn.initializers.ones, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,))
        var = self.variable("batch_stats", "var", jnp.ones, (features,))
        if train:
            repeats = flat.shape[0] // shape[0]
            weight = mask / jnp.maximum(mask.sum() * repeats, 1).astype(x.dtype)
            weight = jnp.repeat(weight.astype(x.dtype), repeats)
            batch_mean = weight @ flat
            batch_var = jnp.maximum(weight @ (flat * flat) - batch_mean**2, 0)
            if not self.is_initializing():
                keep = self.momentum
                mean.value = keep * mean.value + (1 - keep) * batch_mean
                var.value = keep * var.value + (1 - keep) * batch_var
        else:
            batch_mean, batch_var = mean.value, var.value
        gain = scale * jax.lax.rsqrt(batch_var + self.epsilon)
        return (flat * gain + (bias - batch_mean * gain)).reshape(shape)


class SpatialShiftConv(nn.Module):
    """Roll channels over joints, mask, mix channels, roll back, normalise, add the input."""

    features: int

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """`[N, T, V, c]` to `[N, T, V, features]`."""
        joints, channels = x.shape[-2:]
        skip = x
        if channels != self.features:
            skip = nn.Dense(self.features, name="down")(x)
            skip = Norm(name="down_norm")(skip, mask, train)
        feature_mask = self.param("feature_mask", nn.initializers.zeros, (joints, channels))
        y = spatial_shift(x, 1) * (jnp.tanh(feature_mask) + 1)
        y = nn.Dense(
            self.features, kernel_init=nn.initializers.normal(self.features**-0.5), name="linear"
        )(y)
        y = Norm(axes=2, name="norm")(spatial_shift(y, -1), mask, train)
        return nn.relu(y + skip)


class TemporalShiftConv(nn.Module):
    """Normalise, shift in time, mix channels, shift again (with the stride), normalise."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """`[N, T, V, c]` to `[N, T // stride, V, features]`."""
        shift_in = self.param("shift_in", _uniform(1.0), (x.shape[-1],))
        shift_out = self.param("shift_out", _uniform(1.0), (self.features,))
        y = temporal_shift(Norm(name="norm_in")(x, mask, train), shift_in, 1)
        y = nn.relu(nn.Dense(self.features, name="linear")(y))
        y = temporal_shift(y, shift_out, self.stride)
        return Norm(name="norm_out")(y, mask, train)


class ShiftBlock(nn.Module):
    """One layer: spatial, then temporal, then the residual (none in the first layer)."""

    features: int
    stride: int
    residual: bool

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """`[N, T, V, c]` to `[N, T // stride, V, features]`."""
        y = SpatialShiftConv(self.features, name="spatial")(x, mask, train)
        y = TemporalShiftConv(self.features, self.stride, name="temporal")(y, mask, train)
        if not self.residual:
            return nn.relu(y)
        if x.shape[-1] != self.features or self.stride != 1:
            x = nn.Dense(self.features, name="residual")(x[:, :: self.stride])
            x = Norm(name="residual_norm")(x, mask, train)
        return nn.relu(y + x)


class ShiftGCN(nn.Module):
    """Clips to joint-by-time features, and to logits over the classes it is trained on.

    Attributes:
      num_classes: size of the classifier that pretraining uses.
      width: channels of the first stage; the tokens have four times as many.
      segments: `T'`, the temporal segments that tokens are pooled into.
    """

    num_classes: int
    width: int = 64
    segments: int = 3

    def setup(self):
        self.data_norm = Norm(axes=3)
        self.layers = [
            ShiftBlock(self.width * multiple, stride, residual=i > 0)
            for i, (multiple, stride) in enumerate(LAYERS)
        ]
        self.classifier = nn.Dense(self.num_classes)

    def _features(self, clips, train):
        """Per-person features `[B, M, T / 4, V, n]` and presence `[B, M]`."""
        b, m, t, v, c = clips.shape
        if t % TEMPORAL_STRIDE:
            raise ValueError(f"expected T divisible by {TEMPORAL_STRIDE}, got clips {clips.shape}")
        present = present_persons(clips)
        x = jnp.moveaxis(clips, 1, 2)  # [B, T, M, V, 3]: statistics per person slot and joint
        x = self.data_norm(x, jnp.any(present, axis=1), train)
        x = jnp.moveaxis(x, 2, 1).reshape(b * m, t, v, c)
        mask = present.reshape(b * m)
        for layer in self.layers:
            x = layer(x, mask, train)
        return x.reshape(b, m, *x.shape[1:]), present

    def __call__(
        self, clips: Float[Array, "B M T V 3"], train: bool = False
    ) -> Float[Array, "B classes"]:
        """Class logits: mean over frames, joints and present persons, then one linear map."""
        x, present = self._features(clips, train)
        return self.classifier(_person_mean(x.mean(axis=(2, 3)), present))

    def tokens(self, clips: Float[Array, "B M T V 3"]) -> Float[Array, "B segments V n"]:
        """Tokens `[B, T', V, n]`: segment means in time, mean over present persons."""
        x, present = self._features(clips, train=False)
        bounds = np.linspace(0, x.shape[2], self.segments + 1)
        parts = [
            x[:, :, int(np.floor(lo)) : int(np.ceil(hi))].mean(axis=2)
            for lo, hi in itertools.pairwise(bounds)
        ]
        return _person_mean(jnp.stack(parts, axis=2), present)


def _person_mean(x, present):
    """Mean of `x` `[B, M, ...]` over the present persons (an empty clip gives zeros)."""
    weight = present / jnp.maximum(present.sum(axis=1, keepdims=True), 1)
    return jnp.einsum("bm...,bm->b...", x, weight.astype(x.dtype))
