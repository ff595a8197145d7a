"""DG-STGCN (Duan et al., 2022): eight learned graphs, refined by channel; no prescribed bones.

The graph of channel `c` of group `k` is `A_k + alpha tanh(a_v - b_w) + beta softmax_v(a_v' b_w)`,
where `a` and `b` are maps of the mean over frames; joint `w` of the result is the sum over `v`. The
temporal unit has six branches, and adds to each joint the mean joint, weighted. `alpha`, `beta` and
the weights of the mean joint begin as 0.

DynaPURLS cites DGNN (Shi et al., CVPR 2019) for its features "DG", but calls the encoder DG-GCN,
the name of the spatial unit of this network.

Expected cost of a clip of two persons, V = 25, forward: 1.61 GMAC for T = 64, 7.44 for T = 300.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import EncoderEntry, SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchStatistics
from dynapurls_jax.encoders.layers import Branches, LayerSettings, Norm, graph_encoder
from dynapurls_jax.encoders.products import Pointwise
from dynapurls_jax.registry import check_at_least

GROUPS = 8
BRANCHES = 6


class DgStgcnSettings(LayerSettings):
    """The encoder's settings; `width` is 8 or more."""

    def __post_init__(self):
        super().__post_init__()
        check_at_least(GROUPS, width=self.width)


def near_uniform(key, shape, dtype=jnp.float32) -> Array:
    """The published initialisation of graphs."""
    return 0.04 + nn.initializers.normal(0.02)(key, shape, dtype)


class DynamicGraphs(nn.Module):
    """The graph of each channel of each group, from the means over frames."""

    channels: int

    @nn.compact
    def __call__(self, still: Float[Array, "N V c"]) -> Float[Array, "K channels N V V"]:
        n, joints = still.shape[:2]
        learned = self.param("graph", near_uniform, (GROUPS, joints, joints))
        alpha, beta = (self.param(name, nn.initializers.zeros, (1,)) for name in ("alpha", "beta"))
        shape = (n, joints, GROUPS, self.channels)
        a, b = (
            Pointwise(GROUPS * self.channels, name=name)(still).reshape(shape).transpose(2, 3, 0, 1)
            for name in ("a", "b")
        )
        wide = jnp.promote_types(still.dtype, jnp.float32)
        products = jnp.einsum("kcnv,kcnw->knvw", a, b, preferred_element_type=wide)
        similar = beta * nn.softmax(products, axis=2)
        graphs = alpha * jnp.tanh(a[..., :, None] - b[..., None, :])
        return graphs + (learned[:, None] + similar)[:, None]


class DynamicGraphConv(nn.Module):
    """Maps channels to eight groups, mixes joints by their graphs, maps back, adds the input."""

    features: int
    parents: tuple[int, ...]  # not used: the graph is learned

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T, features]`."""
        channels = self.features // GROUPS
        y = Pointwise(GROUPS * channels, name="pre")(x)
        y = nn.relu(Norm(name="pre_norm")(y, persons)).transpose(3, 0, 1, 2)
        graphs = DynamicGraphs(channels, name="graphs")(x.mean(axis=2))
        graphs = graphs.reshape(-1, *graphs.shape[2:]).astype(x.dtype)
        y = jnp.einsum("cnvw,cnvt->nwtc", graphs, y)
        y = Norm(name="norm")(Pointwise(self.features, name="post")(y), persons)
        if x.shape[-1] != self.features:
            x = Norm(name="down_norm")(Pointwise(self.features, name="down")(x), persons)
        return nn.relu(y + x)


class MeanJointMultiScale(nn.Module):
    """The temporal unit: six branches, of the joints and of their mean; a 1x1 map of both."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T / stride, features]`."""
        weight = self.param("mean_joint", nn.initializers.zeros, (x.shape[1],))
        x = jnp.concatenate([x, x.mean(axis=1, keepdims=True)], axis=1)
        part = self.features // BRANCHES
        widths = (self.features - 5 * part,) + (part,) * 5
        y = Branches(widths, 3, (1, 2, 3, 4), self.stride, name="branches")(x, persons)
        y = y[:, :-1] + weight.astype(x.dtype)[:, None, None] * y[:, -1:]
        y = nn.relu(Norm(name="branches_norm")(y, persons))
        return Norm(name="norm")(Pointwise(self.features, name="transform")(y), persons)


def make(settings: DgStgcnSettings, skeleton: Skeleton) -> SkeletonEncoder:
    """The encoder, for any number of joints."""
    units = (DynamicGraphConv, MeanJointMultiScale)
    return graph_encoder(units, settings, skeleton, per_slot=False)


ENTRY = EncoderEntry(
    make,
    DgStgcnSettings,
    description="DG-STGCN: eight learned graphs, refined for each channel and clip",
    paper=Paper("Duan et al., 2022", "https://arxiv.org/abs/2210.05895"),
)
