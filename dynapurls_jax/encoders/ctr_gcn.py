"""CTR-GCN (Chen et al., ICCV 2021): a graph for each channel, refined from one for all channels.

For each of three subsets, `G[c] = PA_k + alpha (W4 tanh(a_u - b_v))[c]`, where `a` and `b` are maps
of the mean over frames, `PA_k` begins as the bones and `alpha`, one for each layer, as 0. Joint `u`
of the result is the sum over `v` of `G[c, u, v]` times joint `v`. The temporal unit has four
branches.

Expected cost of a clip of two persons, V = 25, forward: 1.77 GMAC for T = 64, 7.88 for T = 300.
The published code takes 1.94 for T = 64: it maps every frame, then takes the mean over frames.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import EncoderEntry, SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchStatistics
from dynapurls_jax.encoders.jit import platform, stored
from dynapurls_jax.encoders.layers import (
    Branches,
    LayerSettings,
    Norm,
    graph_encoder,
    spatial_subsets,
)
from dynapurls_jax.encoders.products import FAN_OUT, Pointwise, added
from dynapurls_jax.registry import check_at_least

BRANCHES = 4


class CtrGcnSettings(LayerSettings):
    """The encoder's settings; `width` is 4 or more."""

    def __post_init__(self):
        super().__post_init__()
        check_at_least(BRANCHES, width=self.width)


def around_one(key, shape, dtype=jnp.float32) -> Array:
    """The published initialisation of the temporal unit's gains."""
    return 1 + nn.initializers.normal(0.02)(key, shape, dtype)


class ChannelGraphConv(nn.Module):
    """Mixes joints of each channel by its graph, for three subsets; adds, normalises, adds `x`."""

    features: int
    parents: tuple[int, ...]

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T, features]`."""
        bones = jnp.asarray(spatial_subsets(self.parents))
        learned = jnp.asarray(self.param("graph", lambda key: bones))  # a restored one is NumPy
        alpha = jnp.asarray(self.param("alpha", nn.initializers.zeros, (1,)))
        still, first = x.mean(axis=2), channels_first(x)
        subsets = range(len(bones))
        y = mixed_by_channel(
            [
                Relation(self.features, name=f"relation{k}")(still, alpha, learned[k])
                for k in subsets
            ],
            [ChannelsFirst(self.features, name=f"conv{k}")(first) for k in subsets],
        )
        y = Norm(scale_init=nn.initializers.constant(1e-6), name="norm")(y, persons)
        if x.shape[-1] != self.features:
            x = Norm(name="down_norm")(Pointwise(self.features, name="down")(x), persons)
        return nn.relu(y + x)


class Relation(nn.Module):
    """`alpha W4 tanh(a_u - b_v) + learned`: for each channel, how joint `u` differs from `v`."""

    features: int

    @nn.compact
    def __call__(
        self, still: Float[Array, "N V c"], alpha: Float[Array, "1"], learned: Float[Array, "V V"]
    ) -> Float[Array, "features N V V"]:
        channels = still.shape[-1]
        reduced = 8 if channels <= 16 else channels // 8
        a, b = (Pointwise(reduced, name=name)(still) for name in ("a", "b"))
        difference = channels_first(jnp.tanh(a[:, :, None] - b[:, None]))
        return ChannelsFirst(self.features, name="expand")(difference, alpha, learned)


def mixed_by_channel(
    graphs: list[Float[Array, "features N V V"]], mapped: list[Float[Array, "features N V T"]]
) -> Float[Array, "N V T features"]:
    """The sum over subsets of the products of each channel and person."""
    if platform() == "cpu":
        parts = (graph @ part for graph, part in zip(graphs, mapped, strict=True))
        return stored(added(parts)).transpose(1, 2, 3, 0)
    # A TPU is faster with one product, which adds the subsets: their joints are side by side.
    graph, joints = jnp.concatenate(graphs, axis=3), jnp.concatenate(mapped, axis=2)
    return jnp.einsum("cnuv,cnvt->nutc", graph, joints)


def channels_first(x: Float[Array, "N V T c"]) -> Float[Array, "c N V T"]:
    """The array with its channels first."""
    return stored(jnp.moveaxis(x, -1, 0))


class ChannelsFirst(nn.Module):
    """A 1x1 convolution with channels first, as products by channel want them."""

    features: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "c N V T"],
        scale: float | Float[Array, "1"] = 1.0,
        offset: Float[Array, "V T"] | None = None,
    ) -> Float[Array, "features N V T"]:
        """`scale` times the convolution, plus `offset`.

        On a CPU the bias and the offset are channels of the product: sums after it would read and
        write the result again.
        """
        kernel = self.param("kernel", FAN_OUT, (len(x), self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        offset = jnp.zeros(x.shape[2:]) if offset is None else offset
        if platform() != "cpu":
            mapped = jnp.einsum("ck,cnvt->knvt", kernel.astype(x.dtype), x)
            mapped = mapped + bias[:, None, None, None].astype(x.dtype)
            return (scale * mapped + offset).astype(x.dtype)
        one = jnp.ones_like(x[:1])
        channels = jnp.concatenate([x, one, one * offset.astype(x.dtype)])
        kernel = jnp.concatenate([scale * kernel, scale * bias[None], jnp.ones_like(bias[None])])
        product = kernel.astype(x.dtype).T @ channels.reshape(len(channels), -1)
        return product.reshape(-1, *x.shape[1:])


class MultiScale(nn.Module):
    """The temporal unit: two dilated convolutions, a maximum, a 1x1 map; each normalised.

    Attributes:
      rectified: a ReLU follows, as in the networks of PYSKL. For converted checkpoints.
    """

    features: int
    stride: int
    rectified: bool = False

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T / stride, features]`."""
        part = self.features // BRANCHES
        widths = (part, part, part, self.features - 3 * part)
        y = Branches(widths, 5, (1, 2), self.stride, around_one, name="branches")(x, persons)
        y = Norm(scale_init=around_one, name="norm")(y, persons)
        return nn.relu(y) if self.rectified else y


def make(settings: CtrGcnSettings, skeleton: Skeleton) -> SkeletonEncoder:
    """The encoder, for any tree of joints."""
    return graph_encoder((ChannelGraphConv, MultiScale), settings, skeleton)


ENTRY = EncoderEntry(
    make,
    CtrGcnSettings,
    description="CTR-GCN, one stream: a graph for each channel, refined from a shared one",
    paper=Paper("Chen et al., ICCV 2021", "https://arxiv.org/abs/2107.12213"),
)
