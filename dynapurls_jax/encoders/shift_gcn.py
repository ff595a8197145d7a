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


def present_persons(clips: Float[Array, "B M T V c"]) -> Bool[Array, "B M"]:
    """A person whose coordinates are all exactly zero is absent."""
    return jnp.any(clips != 0, axis=(2, 3, 4))


def _uniform(scale):
    def init(key, shape, dtype=jnp.float32):
        return nn.initializers.uniform(2 * scale)(key, shape, dtype) - scale

    return init


class Norm(nn.Module):
    """Batch normalisation of each channel, or of each joint's each channel, over present persons.

    Flax's own `BatchNorm` takes a mask too, but wants channels last.
    """

    per_joint: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """Normalises `x` `[channels, T, N, V]`; `mask` `[N]` marks the persons that count."""
        channels, frames, _, joints = x.shape
        groups = joints if self.per_joint else 1
        features = groups * channels  # kept joint by joint, as the published checkpoints do
        scale = self.param("scale", nn.initializers.ones, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,))
        var = self.variable("batch_stats", "var", jnp.ones, (features,))
        if train:
            weight = mask.astype(x.dtype) / jnp.maximum(mask.sum() * frames, 1)

            def average(values):
                joint_wise = jnp.einsum("ctnv,n->vc", values, weight)
                kept = joint_wise if self.per_joint else joint_wise.mean(axis=0)
                return kept.reshape(features)

            batch_mean = average(x)
            batch_var = jnp.maximum(average(x * x) - batch_mean**2, 0)
            if not self.is_initializing():
                keep = self.momentum
                mean.value = keep * mean.value + (1 - keep) * batch_mean
                var.value = keep * var.value + (1 - keep) * batch_var
        else:
            batch_mean, batch_var = mean.value, var.value
        gain = scale * jax.lax.rsqrt(batch_var + self.epsilon)

        def spread(values):
            return values.reshape(groups, channels).T[:, None, None, :]

        return x * spread(gain) + spread(bias - batch_mean * gain)


class Mix(nn.Module):
    """A dense layer over the leading channel axis, the same for every frame and joint."""

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        """`[c, T, N, V]` to `[features, T, N, V]`."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[0], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return jnp.einsum("cd,ctnv->dtnv", kernel, x) + bias[:, None, None, None]


class SpatialShiftConv(nn.Module):
    """Roll channels over joints, mask, mix channels, roll back, normalise, add the input."""

    features: int

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """`[c, T, N, V]` to `[features, T, N, V]`."""
        channels, joints = x.shape[0], x.shape[-1]
        skip = x
        if channels != self.features:
            skip = Norm(name="down_norm")(Mix(self.features, name="down")(x), mask, train)
        feature_mask = self.param("feature_mask", nn.initializers.zeros, (joints, channels))
        y = spatial_shift(x, 1) * (jnp.tanh(feature_mask.T) + 1)[:, None, None, :]
        y = Mix(self.features, nn.initializers.normal(self.features**-0.5), name="linear")(y)
        y = Norm(per_joint=True, name="norm")(spatial_shift(y, -1), mask, train)
        return nn.relu(y + skip)


class TemporalShiftConv(nn.Module):
    """Normalise, shift in time, mix channels, shift again (with the stride), normalise."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """`[c, T, N, V]` to `[features, T // stride, N, V]`."""
        shift_in = self.param("shift_in", _uniform(1.0), (x.shape[0],))
        shift_out = self.param("shift_out", _uniform(1.0), (self.features,))
        y = temporal_shift(Norm(name="norm_in")(x, mask, train), shift_in, 1)
        y = temporal_shift(nn.relu(Mix(self.features, name="linear")(y)), shift_out, self.stride)
        return Norm(name="norm_out")(y, mask, train)


class ShiftBlock(nn.Module):
    """One layer: spatial, then temporal, then the residual (none in the first layer)."""

    features: int
    stride: int
    residual: bool

    @nn.compact
    def __call__(self, x, mask, train: bool):
        """`[c, T, N, V]` to `[features, T // stride, N, V]`."""
        y = SpatialShiftConv(self.features, name="spatial")(x, mask, train)
        y = TemporalShiftConv(self.features, self.stride, name="temporal")(y, mask, train)
        if not self.residual:
            return nn.relu(y)
        if x.shape[0] != self.features or self.stride != 1:
            x = Mix(self.features, name="residual")(x[:, :: self.stride])
            x = Norm(name="residual_norm")(x, mask, train)
        return nn.relu(y + x)


class ShiftGCN(nn.Module):
    """Clips to joint-by-time features, and to logits over the classes it is trained on.

    Attributes:
      num_classes: size of the classifier that pretraining uses.
      width: channels of the first stage; the tokens have four times as many.
      segments: `T'`, the temporal segments that tokens are pooled into.
      count_absent: treat absent persons as present, as the published network does, whose features
        are means over two persons always. For converted checkpoints.
    """

    num_classes: int
    width: int = 64
    segments: int = 3
    count_absent: bool = False

    def setup(self):
        self.data_norm = Norm(per_joint=True)
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
        present = present_persons(clips) | self.count_absent
        x = clips.transpose(4, 2, 0, 1, 3)  # [c, T, B, M, V]
        # Input statistics are those of each person slot's each joint.
        x = self.data_norm(x.reshape(c, t, b, m * v), jnp.any(present, axis=1), train)
        x = x.reshape(c, t, b * m, v)
        mask = present.reshape(b * m)
        for layer in self.layers:
            x = layer(x, mask, train)
        n, t, *_ = x.shape
        return x.reshape(n, t, b, m, v).transpose(2, 3, 1, 4, 0), present

    def __call__(
        self, clips: Float[Array, "B M T V c"], train: bool = False
    ) -> Float[Array, "B classes"]:
        """Class logits: one linear map of `pooled`."""
        return self.classifier(self.pooled(clips, train))

    def pooled(self, clips: Float[Array, "B M T V c"], train: bool = False) -> Float[Array, "B n"]:
        """Mean features over frames, joints and present persons."""
        x, present = self._features(clips, train)
        return _person_mean(x.mean(axis=(2, 3)), present)

    def tokens(self, clips: Float[Array, "B M T V c"]) -> Float[Array, "B segments V n"]:
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
