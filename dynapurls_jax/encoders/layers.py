"""What the graph networks share: settings, adjacency, normalisation, the ten layers.

Features are `[N, V, T, c]`, channels last. A 1x1 convolution is then one matrix product, a mix of
joints is one product for each person, and a convolution in time has its frames side by side; none
of them moves an array. A layer is a spatial unit, a temporal unit and the residual; the file of
each encoder has its own units and `make`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchNorm, BatchStatistics
from dynapurls_jax.encoders.jit import stored
from dynapurls_jax.encoders.products import (
    Initializer,
    Pointwise,
    TemporalConv,
    largest_of_three,
)
from dynapurls_jax.registry import check_at_least, check_choice

# Width multiple and temporal stride of the published ten layers.
LAYERS = ((1, 1),) * 4 + ((2, 2), (2, 1), (2, 1)) + ((4, 2), (4, 1), (4, 1))
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class LayerSettings:
    """The settings of a network of such layers.

    Attributes:
      width: channels of the first stage; with the published layers tokens have four times as many.
      layers: width multiple and temporal stride (1 or 2) of each layer.
      segments: `T'`.
      dtype: of features, "float32" or "bfloat16"; statistics and parameters are always float32.
      remat: rematerialise: store only the features between layers for the gradient and recompute
        the others, which takes less memory and more time.

    Raises:
      ValueError: a setting is out of range.
    """

    width: int = 64
    layers: tuple[tuple[int, int], ...] = LAYERS
    segments: int = 3
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self):
        check_at_least(1, width=self.width, segments=self.segments)
        check_choice("dtype", self.dtype, DTYPES)
        if not self.layers or any(m < 1 or s not in (1, 2) for m, s in self.layers):
            raise ValueError(
                "layers: expected pairs of a width multiple (1 or more) and a temporal stride (1 "
                f"or 2), got {self.layers}"
            )


def links(parents: tuple[int, ...]) -> Float[np.ndarray, "3 V V"]:
    """Which joint `v` sends to which joint `w`: itself, its parent, its child.

    Element `[k, v, w]` is 1 if `w` reads `v`: `v = w`, `v` is the parent of `w`, `v` is a child
    of `w`.

    Args:
      parents: index of each joint's parent; a root is its own parent.
    """
    own = np.eye(len(parents))
    inward = own[list(parents)].T * (1 - own)
    return np.stack([own, inward, inward.T])


def spatial_subsets(parents: tuple[int, ...]) -> Float[np.ndarray, "3 V V"]:
    """The adjacency of 2s-AGCN and CTR-GCN: `links` with columns that sum to 1, or to 0."""
    graph = links(parents)
    return graph / np.maximum(graph.sum(axis=1, keepdims=True), 1)


class Norm(BatchNorm):
    """`BatchNorm` of each channel, channels last."""

    def __call__(  # type: ignore[override]
        self, x: Float[Array, "N V T c"], persons: BatchStatistics | None
    ) -> Float[Array, "N V T c"]:
        """`x`, normalised by the moments of present persons, or for None by the running ones."""
        gain, offset = self.affine(x.shape[-1], 1, self._moments(x, persons) if persons else None)
        return (x * gain[:, 0] + offset[:, 0]).astype(x.dtype)

    def _moments(self, x, persons: BatchStatistics):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        weight = persons.share / (x.shape[1] * x.shape[2])
        sums = [weight @ part.sum(axis=(1, 2)) for part in (wide, wide * wide)]
        return persons.of_all(jnp.stack(sums))


class SingleScale(nn.Module):
    """The temporal unit of ST-GCN and 2s-AGCN: a convolution over nine frames, normalised."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T / stride, features]`."""
        y = TemporalConv(self.features, 9, self.stride, name="conv")(x)
        return Norm(name="norm")(y, persons)


class Branches(nn.Module):
    """Temporal branches side by side: dilated convolutions, a maximum over 3 frames, a 1x1 map.

    All but the last begin with a 1x1 map, a normalisation and a ReLU, here one of each for all.

    Attributes:
      features: channels of each branch.
      size: frames of the convolutions.
      dilations: of the first branches; the last two are the maximum and the 1x1 map.
      scale_init: of the gains of the normalisation.
    """

    features: tuple[int, ...]
    size: int
    dilations: tuple[int, ...]
    stride: int
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T / stride, sum(features)]`."""
        *widths, last = self.features
        init = nn.initializers.normal((2 / widths[-1]) ** 0.5)  # `FAN_OUT` of one branch
        reduced = Pointwise(sum(widths), init, name="reduce")(x)
        norm = Norm(scale_init=self.scale_init, name="reduce_norm")
        reduced = nn.relu(norm(reduced, persons))
        *convolved, pooled = jnp.split(reduced, np.cumsum(widths)[:-1].tolist(), axis=-1)
        branches = [
            TemporalConv(part.shape[-1], self.size, self.stride, dilation, name=f"conv{i}")(part)
            for i, (part, dilation) in enumerate(zip(convolved, self.dilations, strict=True))
        ]
        plain = Pointwise(last, name="plain")(x[:, :, :: self.stride])
        return jnp.concatenate(
            [*branches, largest_of_three(pooled, 2, self.stride), plain], axis=-1
        )


class Layer(nn.Module):
    """A spatial unit, a temporal unit, and the residual (none in the first layer).

    Attributes:
      spatial_unit: `(features, parents) -> module`.
      temporal_unit: `(features, stride) -> module`.
    """

    spatial_unit: Callable[..., nn.Module]
    temporal_unit: Callable[..., nn.Module]
    parents: tuple[int, ...]
    features: int
    stride: int
    residual: bool

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T / stride, features]`."""
        y = self.spatial_unit(self.features, self.parents, name="spatial")(x, persons)
        y = self.temporal_unit(self.features, self.stride, name="temporal")(y, persons)
        if not self.residual:
            return nn.relu(y)
        if x.shape[-1] != self.features or self.stride != 1:
            x = Pointwise(self.features, name="skip")(x[:, :, :: self.stride])
            x = Norm(name="skip_norm")(x, persons)
        return nn.relu(y + x)


class GraphNetwork(nn.Module):
    """The backbone; units as in `Layer`, other fields as in `LayerSettings`.

    Attributes:
      parents: of the skeleton.
    """

    spatial_unit: Callable[..., nn.Module]
    temporal_unit: Callable[..., nn.Module]
    parents: tuple[int, ...]
    width: int = 64
    layers: tuple[tuple[int, int], ...] = LAYERS
    dtype: Any = jnp.float32
    remat: bool = False

    def setup(self):
        layer: Any = nn.remat(Layer) if self.remat else Layer
        units = self.spatial_unit, self.temporal_unit, self.parents
        self.layers_ = [
            layer(*units, self.width * multiple, stride, i > 0, name=f"layers_{i}")
            for i, (multiple, stride) in enumerate(self.layers)
        ]

    @property
    def stride(self) -> int:
        """Frames of a clip that become one frame of features."""
        return math.prod(stride for _, stride in self.layers)

    def __call__(
        self, x: Float[Array, "N T V c"], persons: BatchStatistics | None
    ) -> Float[Array, "N T_out V n"]:
        """Features of each person.

        Args:
          persons: weights in the statistics of a training batch; None for running statistics.
        """
        x = x.transpose(0, 2, 1, 3).astype(self.dtype)
        for layer in self.layers_:
            x = stored(layer(x, persons))
        return x.transpose(0, 2, 1, 3)


def graph_encoder(
    units: tuple[Callable[..., nn.Module], Callable[..., nn.Module]],
    settings: LayerSettings,
    skeleton: Skeleton,
    per_slot: bool = True,
) -> SkeletonEncoder:
    """The encoder of a spatial and a temporal unit.

    Args:
      per_slot: see `SkeletonEncoder`.
    """
    s, dtype = settings, jnp.dtype(settings.dtype)
    network = GraphNetwork(*units, skeleton.parents, s.width, s.layers, dtype, s.remat)
    return SkeletonEncoder(network, settings.segments, per_slot=per_slot)
