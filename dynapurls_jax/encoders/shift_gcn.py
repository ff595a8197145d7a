"""Shift-GCN (Cheng et al., CVPR 2020): a skeleton encoder of shifts and 1x1 maps, for any V.

Expected cost of one person at full size (width 64, T = 300, V = 25), forward:

  maps   1.78 GMAC, so 3.6 GFLOP; a clip of two persons takes 3.57 GMAC. The layers of width 64, 128
         and 256 have 12, 29 and 59 % of them. Cost goes with T, with V and with the square of the
         width.
  bytes  0.32 GB in float32: 166 feature maps of 1.92 MB are read or written, about 14 a layer. That
         is 11 FLOPs a byte, so on an accelerator it is memory that binds, not arithmetic.

Training takes three times the FLOPs and about three times the bytes.

`jax.lax.optimization_barrier` marks what is written to memory: whatever stands between two of them
is one pass over the features. Without it XLA repeats shifts and normalisations for each of their
readers (docs/speed.md has the difference). At inference a normalisation is a gain and an offset
inside such a pass, like the feature mask: folding them into the maps would save no pass.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.encoders.batch_norm import Norm, BatchStatistics
from dynapurls_jax.encoders.masking import clip_lengths, pack, present_persons, segment_weights
from dynapurls_jax.encoders.shifts import spatial_shift, temporal_shift

# Width multiple and temporal stride of the ten layers.
LAYERS = ((1, 1),) * 4 + ((2, 2), (2, 1), (2, 1)) + ((4, 2), (4, 1), (4, 1))
TEMPORAL_STRIDE = 4

_written = jax.lax.optimization_barrier


def token_width(width: int) -> int:
    """Channels `n` of the tokens that an encoder of this base width gives."""
    return width * LAYERS[-1][0]


def _uniform(scale):
    def init(key, shape, dtype=jnp.float32):
        return nn.initializers.uniform(2 * scale)(key, shape, dtype) - scale

    return init


class PointwiseConv(nn.Module):
    """A dense layer over the leading channel axis, the same for every frame, joint and person."""

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        """`[c, T, V, N]` to `[features, T, V, N]`; its bias joins the pass that follows."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[0], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = kernel.T.astype(x.dtype) @ x.reshape(x.shape[0], -1)
        y = _written(y.reshape(self.features, *x.shape[1:]))
        return y + bias[:, None, None, None].astype(x.dtype)


class SpatialShiftConv(nn.Module):
    """Roll channels over joints, mask, mix channels, roll back, normalise, add the input."""

    features: int

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[c, T, V, N]` to `[features, T, V, N]`."""
        channels, joints = x.shape[0], x.shape[2]
        skip = x
        if channels != self.features:
            skip = PointwiseConv(self.features, name="down")(x)
            skip = Norm(name="down_norm")(skip, persons.moments(skip) if persons else None)
        feature_mask = self.param("feature_mask", nn.initializers.zeros, (joints, channels))
        gain = (jnp.tanh(feature_mask.T) + 1)[:, None, :, None].astype(x.dtype)
        mix = PointwiseConv(self.features, nn.initializers.normal(self.features**-0.5), name="linear")
        y = mix(_written(spatial_shift(x, 1) * gain))
        # A roll moves joints about: moments are taken before it, and only they are rolled.
        batch = persons.moments(y, per_joint=True) if persons else None
        batch = jax.tree.map(lambda m: spatial_shift(m[:, None, :, None], -1)[:, 0, :, 0], batch)
        y = Norm(per_joint=True, name="norm")(spatial_shift(y, -1), batch)
        return _written(nn.relu(y + skip))


class TemporalShiftConv(nn.Module):
    """Normalise, shift in time, mix channels, shift again (with the stride), normalise."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[c, T, V, N]` to `[features, T // stride, V, N]`."""
        shift_in = self.param("shift_in", _uniform(1.0), (x.shape[0],))
        shift_out = self.param("shift_out", _uniform(1.0), (self.features,))
        y = Norm(name="norm_in")(x, persons.moments(x) if persons else None)
        y = _written(temporal_shift(y, shift_in, 1))
        y = nn.relu(PointwiseConv(self.features, name="linear")(y))
        y = _written(temporal_shift(y, shift_out, self.stride))
        return Norm(name="norm_out")(y, persons.moments(y) if persons else None)


class ShiftBlock(nn.Module):
    """One layer: spatial, then temporal, then the residual (none in the first layer)."""

    features: int
    stride: int
    residual: bool

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[c, T, V, N]` to `[features, T // stride, V, N]`."""
        y = SpatialShiftConv(self.features, name="spatial")(x, persons)
        temporal = TemporalShiftConv(self.features, self.stride, name="temporal")
        y = temporal(y, persons)
        if not self.residual:
            return _written(nn.relu(y))
        if x.shape[0] != self.features or self.stride != 1:
            x = PointwiseConv(self.features, name="residual")(_written(x[:, :: self.stride]))
            x = Norm(name="residual_norm")(x, persons.moments(x) if persons else None)
        return _written(nn.relu(y + x))


class ShiftGCN(nn.Module):
    """Clips to joint-by-time features, and to logits over the classes it is trained on.

    Attributes:
      num_classes: size of the classifier that pretraining uses.
      width: channels of the first stage; the tokens have four times as many.
      segments: `T'`, the temporal segments that tokens are pooled into.
      dtype: of features; statistics, parameters and results are float32 always.
      count_absent: treat absent persons as present, as the published network does, whose features
        are means over two persons always. For converted checkpoints.
      remat: keep only what is between the layers for the gradient, and compute the rest again.
      axis: name of the mesh axis over which a batch is divided, inside `jax.shard_map`: statistics
        are then those of the global batch.

    All methods take `capacity`, the number of persons that are computed: at least the number that
    are present in the batch, `B * M` if not given. Where it is too small the result is NaN.
    """

    num_classes: int
    width: int = 64
    segments: int = 3
    dtype: Any = jnp.float32
    count_absent: bool = False
    remat: bool = False
    axis: str | None = None

    def setup(self):
        block = nn.remat(ShiftBlock) if self.remat else ShiftBlock
        self.data_norm = Norm(per_joint=True)
        self.layers = [
            block(self.width * multiple, stride, i > 0)
            for i, (multiple, stride) in enumerate(LAYERS)
        ]
        self.classifier = nn.Dense(self.num_classes)

    def _features(self, clips, train, capacity):
        """Features of persons `[n, T / 4, V, P]`, and the share of each in a clip `[P, B]`."""
        b, m, t, v, c = clips.shape
        if t % TEMPORAL_STRIDE:
            raise ValueError(f"expected T divisible by {TEMPORAL_STRIDE}, got clips {clips.shape}")
        present = present_persons(clips) | self.count_absent
        x = clips.transpose(4, 2, 1, 3, 0).reshape(c, t, m * v, b)
        # Input statistics are those of each person slot's each joint.
        slots = BatchStatistics.of(jnp.any(present, axis=1), self.axis) if train else None
        batch = slots.moments(x, per_joint=True) if slots else None
        x = self.data_norm(x, batch).reshape(c, t, m, v, b)
        x, share = pack(x, present, b * m if capacity is None else capacity)
        x = x.astype(self.dtype)
        persons = BatchStatistics.of(jnp.any(share > 0, axis=1), self.axis) if train else None
        for layer in self.layers:
            x = layer(x, persons)
        return x, share

    def __call__(
        self,
        clips: Float[Array, "B M T V c"],
        train: bool = False,
        capacity: int | None = None,
    ) -> Float[Array, "B classes"]:
        """Class logits: one linear map of `pooled`."""
        return self.classifier(self.pooled(clips, train, capacity))

    def pooled(
        self,
        clips: Float[Array, "B M T V c"],
        train: bool = False,
        capacity: int | None = None,
    ) -> Float[Array, "B n"]:
        """Mean features over frames, joints and present persons."""
        x, share = self._features(clips, train, capacity)
        return jnp.einsum("np,pb->bn", x.astype(jnp.float32).mean(axis=(1, 2)), share)

    def tokens(
        self, clips: Float[Array, "B M T V c"], capacity: int | None = None
    ) -> Float[Array, "B segments V n"]:
        """Tokens `[B, T', V, n]`: segment means in time, mean over present persons.

        The segments divide the frames that a clip has: zeros behind its end are in none of them.
        """
        x, share = self._features(clips, False, capacity)
        lengths = clip_lengths(clips) / TEMPORAL_STRIDE
        weights = segment_weights(lengths, self.segments, x.shape[1])  # [B, segments, T / 4]
        of_person = jnp.einsum("bst,pb->stp", weights, (share > 0).astype(jnp.float32))
        parts = [(x * weight[None, :, None, :]).sum(axis=1) for weight in of_person]
        return jnp.einsum("snvp,pb->bsvn", jnp.stack(parts), share)
