"""ST-GCN (Yan et al., AAAI 2018): fixed graphs with learned weights of their edges.

A spatial unit maps channels once for each of three subsets of edges (a joint with itself, with its
children, with its parent), mixes joints along them, and adds. Columns of the three together sum to
1 before the learned weights. The published networks drop out half of the features in training;
this one does not.

The settings `width=16, layers=LAYERS_16` are the network of SMIE, which others call ST-GCN-16.

Expected cost of a clip of two persons, V = 25, forward: 3.6 GMAC for T = 64, 16.9 for T = 300
(`LAYERS_16`: 0.74 and 3.45).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import EncoderEntry, SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchStatistics
from dynapurls_jax.encoders.layers import (
    LAYERS,
    LayerSettings,
    Norm,
    SingleScale,
    graph_encoder,
    links,
)
from dynapurls_jax.encoders.products import FAN_OUT, added, mix_joints, product

LAYERS_16 = (*LAYERS[:-1], (16, 1))


class StgcnSettings(LayerSettings):
    """The encoder's settings."""


def distance_subsets(parents: tuple[int, ...]) -> Float[np.ndarray, "3 V V"]:
    """The adjacency of ST-GCN: a joint itself, its children, its parent.

    The published partition by distance from the centre of gravity is this one if the root is the
    centre.
    """
    graph = links(parents)[[0, 2, 1]]
    return graph / graph.sum(axis=(0, 1))


class MappedMix(nn.Module):
    """A 1x1 convolution, then a mix of joints, computed in the other order.

    In this order the mix has the channels of the input, 3 in the first layer. The bias is
    multiplied by the sums of the graph's columns.
    """

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N V T c"], graph: Float[Array, "V V"]
    ) -> Float[Array, "N V T features"]:
        kernel = self.param("kernel", FAN_OUT, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = product(mix_joints(x, graph), kernel.astype(x.dtype))
        return y + (graph.sum(axis=0)[:, None, None] * bias).astype(x.dtype)


class WeightedGraphConv(nn.Module):
    """Maps channels and mixes joints along each subset of edges; adds, normalises."""

    features: int
    parents: tuple[int, ...]

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T, features]`."""
        fixed = jnp.asarray(distance_subsets(self.parents))
        graphs = fixed * self.param("importance", nn.initializers.ones, fixed.shape)
        y = added(
            MappedMix(self.features, name=f"conv{k}")(x, graph) for k, graph in enumerate(graphs)
        )
        return nn.relu(Norm(name="norm")(y, persons))


def make(settings: StgcnSettings, skeleton: Skeleton) -> SkeletonEncoder:
    """The encoder, for any tree of joints."""
    return graph_encoder((WeightedGraphConv, SingleScale), settings, skeleton, per_slot=False)


ENTRY = EncoderEntry(
    make,
    StgcnSettings,
    description="ST-GCN: convolutions along the bones, with learned weights of edges",
    paper=Paper("Yan et al., AAAI 2018", "https://arxiv.org/abs/1801.07455"),
)
