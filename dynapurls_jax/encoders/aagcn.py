"""AAGCN (Shi et al., TIP 2020): the graphs of 2s-AGCN with a learned base, and three gates.

The graph of a subset is `PA_k + alpha tanh(similarity)`, where `PA_k` begins as the bones and
`alpha`, one for each layer, as 0. After the spatial unit's ReLU come gates of joints, of frames and
of channels; each multiplies features by `1 + sigmoid(.)`. DynaPURLS cites this paper for its
features "AA".

Expected cost of a clip of two persons, V = 25, forward: 4.14 GMAC for T = 64, 19.4 for T = 300.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.agcn import AdaptiveGraphConv, AgcnSettings
from dynapurls_jax.encoders.base import EncoderEntry, SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchStatistics
from dynapurls_jax.encoders.jit import stored
from dynapurls_jax.encoders.layers import SingleScale, graph_encoder, spatial_subsets
from dynapurls_jax.encoders.products import Pointwise, TemporalConv

FRAMES = 9  # that the gate of a frame sees


class AagcnSettings(AgcnSettings):
    """The encoder's settings; `width` is 4 or more."""


class Gates(nn.Module):
    """Gates of joints, then of frames, then of channels.

    The means that a gate reads are means of `x`, weighted by the gates before it, so that the
    features are multiplied once.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "N V T c"]) -> Float[Array, "N V T c"]:
        _, joints, frames, channels = x.shape
        x = stored(x)
        xavier = nn.initializers.variance_scaling(1, "fan_avg", "normal")
        closed, he = nn.initializers.zeros, nn.initializers.he_normal()
        size = joints - 1 + joints % 2  # odd
        gate = TemporalConv(1, size, kernel_init=xavier, name="joints")(x.mean(axis=2)[:, None])
        of_joints = 1 + jax.nn.sigmoid(gate[:, 0, :, 0])
        means = (x * of_joints[:, :, None, None]).mean(axis=1)
        gate = TemporalConv(1, FRAMES, kernel_init=closed, name="frames")(means[:, None])
        of_frames = 1 + jax.nn.sigmoid(gate[:, 0, :, 0])
        means = jnp.einsum("nt,ntc->nc", of_frames, means) / frames
        hidden = nn.relu(Pointwise(channels // 2, he, name="squeeze")(means))
        of_channels = 1 + jax.nn.sigmoid(Pointwise(channels, closed, name="channels")(hidden))
        of_both = stored(of_frames[:, :, None] * of_channels[:, None])
        return x * of_joints[:, :, None, None] * of_both[:, None]


class LearnedGraphConv(AdaptiveGraphConv):
    """The spatial unit of 2s-AGCN with graphs that are learned whole."""

    def graphs(self, similarity: Float[Array, "N K V V"]) -> Float[Array, "N K V V"]:
        """The graphs of each person."""
        bones = jnp.asarray(spatial_subsets(self.parents))
        learned = self.param("graph", lambda key: bones)
        alpha = self.param("alpha", nn.initializers.zeros, (1,))
        return learned + alpha * jnp.tanh(similarity)


class GatedGraphConv(nn.Module):
    """The spatial unit and its gates."""

    features: int
    parents: tuple[int, ...]

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T, features]`."""
        y = LearnedGraphConv(self.features, self.parents, name="graph_conv")(x, persons)
        return Gates(name="gates")(y)


def make(settings: AagcnSettings, skeleton: Skeleton) -> SkeletonEncoder:
    """The encoder, for any tree of joints."""
    return graph_encoder((GatedGraphConv, SingleScale), settings, skeleton)


ENTRY = EncoderEntry(
    make,
    AagcnSettings,
    description="AAGCN, one stream: 2s-AGCN with gates of joints, frames and channels",
    paper=Paper("Shi et al., TIP 2020", "https://arxiv.org/abs/1912.06971"),
)
