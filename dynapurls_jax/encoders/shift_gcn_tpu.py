"""Shift-GCN layers for TPUs: the same function and parameters as `shift_gcn`.

Features are laid out as in `tpu_kernels`. A layer has four passes: the kernels `mix`, `unroll` and
`shift_mix`, then the last normalisation with the residual, which XLA fuses. It reads or writes ten
feature maps, `shift_gcn` fourteen at inference. The kernel that writes features sums their moments.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.encoders.batch_norm import BatchNorm, BatchStatistics, Moments
from dynapurls_jax.encoders.shifts import displacements, spatial_shift
from dynapurls_jax.encoders.tpu_kernels import fold_of, joined, rows_of
from dynapurls_jax.encoders.tpu_spatial import Affine, Lanes, Mix, mix, unroll
from dynapurls_jax.encoders.tpu_temporal import Weights, shift_mix


class Persons(flax.struct.PyTreeNode):
    """The layout of persons, and their weights in batch statistics.

    Attributes:
      share: see `BatchStatistics`; zeros without batch statistics.
      batch: None for running statistics.
      fold: persons in a row of lanes.
      interpret: run the kernels in interpret mode, without a TPU.
    """

    share: Float[Array, "M fold"]
    batch: BatchStatistics | None
    fold: int = flax.struct.field(pytree_node=False)
    interpret: bool = flax.struct.field(pytree_node=False)

    @property
    def counted(self) -> bool:
        """Whether batch statistics are computed."""
        return self.batch is not None

    def lanes(self, channels: int) -> Float[Array, "M L"]:
        """The weight of each person, for each of its lanes."""
        return jnp.repeat(self.share, channels, axis=1)

    def moments(self, sums: tuple[Array, Array], per_joint: bool = False) -> Moments | None:
        """Moments `[channels]` or `[channels, V]` from two weighted sums, `[V, 1, L]` each."""
        if self.batch is None:
            return None
        both = jnp.stack(sums)
        both = both.reshape(2, both.shape[1], self.fold, -1).sum(axis=2)
        both = both.swapaxes(1, 2) if per_joint else both.sum(axis=1)
        return self.batch.of_all(both)

    def sums(self, x: Float[Array, "V T M L"]) -> tuple[Array, Array]:
        """Weighted sums of features and of their squares over frames and joints, `[1, 1, L]`."""
        wide, share = x.astype(jnp.float32), self.lanes(x.shape[3] // self.fold)
        number = x.shape[0] * x.shape[1]
        first = (jnp.sum(wide, axis=(0, 1)) * share).sum(axis=0)
        second = (jnp.sum(wide * wide, axis=(0, 1)) * share).sum(axis=0)
        return first[None, None] / number, second[None, None] / number


def _tiled(values: Float[Array, "channels V"], fold: int) -> Float[Array, "V 1 L"]:
    """Values of channels at joints, repeated for each person in a row of lanes."""
    return jnp.tile(values.T, fold)[:, None]


class PointwiseConv(nn.Module):
    """`shift_gcn.PointwiseConv`: its parameters, or their product with features."""

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def weights(self, channels: int) -> tuple[Array, Array]:
        """Kernel `[channels, features]` and bias `[features]`."""
        kernel = self.param("kernel", self.kernel_init, (channels, self.features))
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: Float[Array, "V T M L"], fold: int) -> Float[Array, "V T M D"]:
        kernel, bias = self.weights(x.shape[3] // fold)
        kernel = jnp.kron(jnp.eye(fold, dtype=x.dtype), kernel.astype(x.dtype))
        return x @ kernel + jnp.tile(bias, fold).astype(x.dtype)


def projected(conv: PointwiseConv, norm: BatchNorm, x, persons: Persons):
    """A normalised 1x1 convolution, `[V, T, M, L]` to `[V, T, M, D]`, for residual connections."""
    y = conv(x, persons.fold)
    batch = persons.moments(persons.sums(y)) if persons.counted else None
    gain, offset = norm.affine(conv.features, 1, batch)
    gain, offset = (_tiled(a, persons.fold) for a in (gain, offset))
    return (y * gain + offset).astype(y.dtype)


class SpatialShiftConv(nn.Module):
    """`shift_gcn.SpatialShiftConv` in two kernels."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "V T M L"], persons: Persons):
        """`[V, T, M, L]` to `[V, T, M, D]`, and its moments."""
        fold, joints, frames = persons.fold, x.shape[0], x.shape[1]
        channels = x.shape[3] // fold
        skip = x
        if channels != self.features:
            down, norm = PointwiseConv(self.features, name="down"), BatchNorm(name="down_norm")
            skip = projected(down, norm, x, persons)
        feature_mask = self.param("feature_mask", nn.initializers.zeros, (joints, channels))
        init = nn.initializers.normal(self.features**-0.5)
        kernel, bias = PointwiseConv(self.features, init, name="linear").weights(channels)
        weights = Mix(
            _tiled(jnp.tanh(feature_mask.T) + 1, fold),
            joined(kernel.astype(x.dtype), fold),
            jnp.tile(bias, fold)[None],
        )
        share = persons.lanes(self.features) / frames
        lanes = Lanes(share, _turn(channels, joints, fold))
        y, *sums = mix(x, weights, lanes, persons.counted, persons.interpret)
        batch = persons.moments(tuple(sums), per_joint=True)
        batch = jax.tree.map(lambda m: spatial_shift(m[:, None, :, None], -1)[:, 0, :, 0], batch)
        norm = BatchNorm(per_joint=True, name="norm")
        affine = norm.affine(self.features, joints, batch)
        affine = Affine(*(_tiled(a, fold) for a in affine))
        lanes = Lanes(share / joints, _turn(self.features, joints, fold))
        y, *sums = unroll(y, skip, affine, lanes, persons.counted, persons.interpret)
        return y, persons.moments(tuple(sums))


def _turn(channels: int, joints: int, fold: int) -> Array:
    """The number of joints by which each lane is rolled, `[1, L]`."""
    return jnp.tile(jnp.arange(channels, dtype=jnp.int32) % joints, fold)[None]


class TemporalShiftConv(nn.Module):
    """`shift_gcn.TemporalShiftConv` in one kernel, without the last normalisation."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "V T M L"], moments: Moments | None, persons: Persons):
        """`[V, T, M, L]` to `[V, T // stride, M, D]`, with gain and offset `[1, 1, D]`.

        Args:
          moments: of `x`; None for running ones.
        """
        fold = persons.fold
        channels = x.shape[3] // fold
        place_in = self.param("shift_in", displacements, (channels,))
        place_out = self.param("shift_out", displacements, (self.features,))
        gain, offset = BatchNorm(name="norm_in").affine(channels, 1, moments)
        kernel, bias = PointwiseConv(self.features, name="linear").weights(channels)
        weights = Weights(
            gain=jnp.tile(gain.T, fold),
            offset=jnp.tile(offset.T, fold),
            place_in=jnp.tile(place_in, fold)[None],
            kernel=joined(kernel.astype(x.dtype), fold),
            bias=jnp.tile(bias, fold)[None],
            place_out=jnp.tile(place_out, fold)[None] + 0.5 * (self.stride - 1),
        )
        number = x.shape[0] * (x.shape[1] // self.stride)
        share = persons.lanes(self.features) / number
        y, *sums = shift_mix(x, weights, share, self.stride, persons.counted, persons.interpret)
        batch = persons.moments((sums[0][None], sums[1][None]))
        gain, offset = BatchNorm(name="norm_out").affine(self.features, 1, batch)
        return y, _tiled(gain, fold), _tiled(offset, fold)


class ShiftBlock(nn.Module):
    """`shift_gcn.ShiftBlock`."""

    features: int
    stride: int
    residual: bool

    @nn.compact
    def __call__(self, x: Float[Array, "V T M L"], persons: Persons):
        """`[V, T, M, L]` to `[V, T // stride, M, D]`."""
        y, moments = SpatialShiftConv(self.features, name="spatial")(x, persons)
        temporal = TemporalShiftConv(self.features, self.stride, name="temporal")
        y, gain, offset = temporal(y, moments, persons)
        y = y * gain + offset
        if self.residual:
            if x.shape[3] != self.features * persons.fold or self.stride != 1:
                conv = PointwiseConv(self.features, name="residual")
                norm = BatchNorm(name="residual_norm")
                x = projected(conv, norm, x[:, :: self.stride], persons)
            y = y + x
        return nn.relu(y).astype(x.dtype)


def folded(
    x: Float[Array, "N T V c"], width: int, batch: BatchStatistics | None, interpret: bool
) -> tuple[Float[Array, "V T M L"], Persons]:
    """Features in the layout of the kernels, padded with absent persons, and this layout.

    Args:
      width: channels of the first layer, which determine the fold.
      batch: see `Persons`.
      interpret: see `Persons`.
    """
    number, frames, joints, channels = x.shape
    rows, fold = rows_of(x.dtype), fold_of(width)
    fold = fold if number > (fold - 1) * rows else 1
    whole = -(-number // (fold * rows)) * fold * rows
    x = jnp.pad(x, ((0, whole - number), *[(0, 0)] * 3))
    x = x.reshape(fold, -1, frames, joints, channels).transpose(3, 2, 1, 0, 4)
    share = jnp.zeros(whole) if batch is None else jnp.pad(batch.share, (0, whole - number))
    persons = Persons(share.reshape(fold, -1).T, batch, fold, interpret)
    return x.reshape(joints, frames, -1, fold * channels), persons


def unfolded(x: Float[Array, "V T M L"], fold: int, number: int) -> Float[Array, "N T V n"]:
    """The inverse of `folded`, for the first `number` persons."""
    joints, frames, rows, _ = x.shape
    x = x.reshape(joints, frames, rows, fold, -1).transpose(3, 2, 1, 0, 4)
    return x.reshape(fold * rows, frames, joints, -1)[:number]
