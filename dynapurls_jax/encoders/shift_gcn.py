"""Shift-GCN (Cheng et al., CVPR 2020): a skeleton encoder of shifts and 1x1 convolutions, any V.

Expected cost of one person at full size (width 64, T = 300, V = 25), forward:

  1x1 convolutions  1.78 GMAC, so 3.6 GFLOP; a clip of two persons takes 3.57 GMAC. The layers of
                    width 64, 128 and 256 take 12, 29 and 59 %. The cost is proportional to T, to V
                    and to the square of the width.
  bytes             0.32 GB in float32: 166 feature maps of 1.92 MB are read or written, about 14 a
                    layer. That is 11 FLOPs a byte: memory bandwidth limits accelerators.

Training takes three times the FLOPs and about three times the bytes. On a TPU, `shift_gcn_tpu` has
the same layers with other kernels, which read or write ten feature maps a layer.

`jax.lax.optimization_barrier` marks arrays that are written to memory: the operations between two
barriers are one pass over the features. Without barriers XLA recomputes shifts and normalisations
in each consumer (docs/studies/speed.md has the difference). At inference a normalisation is a gain
and an offset in such a pass, like the feature mask: folding it into a convolution would save no
pass.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders import shift_gcn_tpu
from dynapurls_jax.encoders.base import EncoderEntry, SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchNorm, BatchStatistics
from dynapurls_jax.encoders.jit import platform, runs_kernels
from dynapurls_jax.encoders.layers import LAYERS, LayerSettings
from dynapurls_jax.encoders.shift_gcn_tpu import folded, unfolded
from dynapurls_jax.encoders.shifts import displacements, spatial_shift, temporal_shift

_barrier = jax.lax.optimization_barrier


class ShiftGcnSettings(LayerSettings):
    """The encoder's settings; `remat` takes a quarter of the memory and a third more time."""


class PointwiseConv(nn.Module):
    """A 1x1 convolution: a dense layer over the leading channel axis."""

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        """`[c, T, V, N]` to `[features, T, V, N]`; the bias is added in the next pass."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[0], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = kernel.T.astype(x.dtype) @ x.reshape(x.shape[0], -1)
        y = _barrier(y.reshape(self.features, *x.shape[1:]))
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
            skip = BatchNorm(name="down_norm")(skip, persons.moments(skip) if persons else None)
        feature_mask = self.param("feature_mask", nn.initializers.zeros, (joints, channels))
        gain = (jnp.tanh(feature_mask.T) + 1)[:, None, :, None].astype(x.dtype)
        mix = PointwiseConv(
            self.features, nn.initializers.normal(self.features**-0.5), name="linear"
        )
        y = mix(_barrier(spatial_shift(x, 1) * gain))
        # A roll permutes joints: moments are computed before it, then rolled.
        batch = persons.moments(y, per_joint=True) if persons else None
        batch = jax.tree.map(lambda m: spatial_shift(m[:, None, :, None], -1)[:, 0, :, 0], batch)
        y = BatchNorm(per_joint=True, name="norm")(spatial_shift(y, -1), batch)
        return _barrier(nn.relu(y + skip))


class TemporalShiftConv(nn.Module):
    """Normalise, shift in time, mix channels, shift again (with the stride), normalise."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[c, T, V, N]` to `[features, T // stride, V, N]`."""
        shift_in = self.param("shift_in", displacements, (x.shape[0],))
        shift_out = self.param("shift_out", displacements, (self.features,))
        y = BatchNorm(name="norm_in")(x, persons.moments(x) if persons else None)
        y = _barrier(temporal_shift(y, shift_in, 1))
        y = nn.relu(PointwiseConv(self.features, name="linear")(y))
        y = _barrier(temporal_shift(y, shift_out, self.stride))
        return BatchNorm(name="norm_out")(y, persons.moments(y) if persons else None)


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
            return _barrier(nn.relu(y))
        if x.shape[0] != self.features or self.stride != 1:
            x = PointwiseConv(self.features, name="residual")(_barrier(x[:, :: self.stride]))
            x = BatchNorm(name="residual_norm")(x, persons.moments(x) if persons else None)
        return _barrier(nn.relu(y + x))


class ShiftGCN(nn.Module):
    """The backbone: packed persons to joint-by-time features; fields as in `ShiftGcnSettings`."""

    width: int = 64
    layers: tuple[tuple[int, int], ...] = LAYERS
    dtype: Any = jnp.float32
    remat: bool = False
    form: str | None = None  # "gather" or "tpu"; None: by platform

    def setup(self):
        form: Any = shift_gcn_tpu.ShiftBlock if self._for_tpu else ShiftBlock
        block = nn.remat(form) if self.remat else form
        # The name is part of the parameter names, which determine their initialisation keys.
        self.layers_ = [
            block(self.width * multiple, stride, i > 0, name=f"layers_{i}")
            for i, (multiple, stride) in enumerate(self.layers)
        ]

    @property
    def stride(self) -> int:
        """Frames of a clip that become one frame of features."""
        return math.prod(stride for _, stride in self.layers)

    @property
    def _for_tpu(self) -> bool:
        """Whether the layers are those of `shift_gcn_tpu`."""
        return runs_kernels() if self.form is None else self.form == "tpu"

    def __call__(
        self, x: Float[Array, "N T V c"], persons: BatchStatistics | None
    ) -> Float[Array, "N T_out V n"]:
        """Features of each person.

        Args:
          persons: weights in the statistics of a training batch; None for running statistics.
        """
        if self._for_tpu:
            features, laid_out = folded(
                x.astype(self.dtype), self.width, persons, interpret=platform() != "tpu"
            )
            for layer in self.layers_:
                features = layer(features, laid_out)
            return unfolded(features, laid_out.fold, len(x))
        x = x.transpose(3, 1, 2, 0).astype(self.dtype)
        for layer in self.layers_:
            x = layer(x, persons)
        return x.transpose(3, 1, 2, 0)


def make(settings: ShiftGcnSettings, skeleton: Skeleton) -> SkeletonEncoder:
    """The encoder; the network itself works for any number of joints."""
    dtype = jnp.dtype(settings.dtype)
    backbone = ShiftGCN(settings.width, settings.layers, dtype, settings.remat)
    return SkeletonEncoder(backbone, settings.segments)


ENTRY = EncoderEntry(
    make,
    ShiftGcnSettings,
    description="The paper's encoder: a graph network of shifts and 1x1 maps",
    paper=Paper(
        "Cheng et al., CVPR 2020",
        "https://openaccess.thecvf.com/content_CVPR_2020/html/Cheng_Skeleton-Based_Action_Recognition_With_Shift_Graph_Convolutional_Network_CVPR_2020_paper.html",
    ),
)
