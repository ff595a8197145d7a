"""2s-AGCN (Shi et al., CVPR 2019): graphs with a fixed, a learned and a similarity part.

One stream of the published pair; the stream is that of the input (`data.streams`). The graph of
each of three subsets is `A_k + PA_k + softmax(theta_k(x)' phi_k(x) / size)`: the bones, a learned
matrix, and the similarity of joints in this clip, whose softmax is over the joint that sends.

Expected cost of a clip of two persons, V = 25, forward: 4.14 GMAC for T = 64, 19.4 for T = 300.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import EncoderEntry, SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchStatistics
from dynapurls_jax.encoders.jit import platform
from dynapurls_jax.encoders.layers import (
    LayerSettings,
    Norm,
    SingleScale,
    graph_encoder,
    spatial_subsets,
)
from dynapurls_jax.encoders.products import Pointwise, added, mix_joints, product
from dynapurls_jax.registry import check_at_least

EMBEDDING = 4  # features for each channel of an embedding


class AgcnSettings(LayerSettings):
    """The encoder's settings; `width` is 4 or more."""

    def __post_init__(self):
        super().__post_init__()
        check_at_least(EMBEDDING, width=self.width)


class Weights(nn.Module):
    """The kernel `[c, features]` and the bias of the 1x1 convolutions of all subsets."""

    features: int
    subsets: int

    @nn.compact
    def __call__(self, x: Float[Array, "N V T c"]) -> tuple[Array, Array]:
        init = nn.initializers.normal((2 * self.subsets / self.features) ** 0.5)  # `FAN_OUT`
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return jnp.asarray(kernel, x.dtype), jnp.asarray(bias, x.dtype)  # restored ones are NumPy


class Similarity(nn.Module):
    """`theta_k(x)' phi_k(x) / size` for each subset `k`; the size is that of the embeddings.

    On a CPU the embeddings of each subset are a product of their own: those of one product for
    all subsets would be moved before the next product. A TPU is faster with wide products.
    """

    subsets: int
    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "N V T c"]) -> Float[Array, "N K V V"]:
        features = self.subsets * self.channels
        theta, phi = (Weights(features, self.subsets, name=name)(x) for name in ("theta", "phi"))
        wide = jnp.promote_types(x.dtype, jnp.float32)
        if platform() == "cpu":
            parts = zip(self._apart(x, theta), self._apart(x, phi), strict=True)
            each = (jnp.einsum("nve,nwe->nvw", a, b, preferred_element_type=wide) for a, b in parts)
            products = jnp.stack(list(each), axis=1)
        else:
            shape = *x.shape[:3], self.subsets, self.channels
            a, b = ((product(x, kernel) + bias).reshape(shape) for kernel, bias in (theta, phi))
            products = jnp.einsum("nvtke,nwtke->nkvw", a, b, preferred_element_type=wide)
        return products / (self.channels * x.shape[2])

    def _apart(self, x, weights: tuple[Array, Array]) -> list[Float[Array, "N V size"]]:
        """The embeddings of each subset at all frames."""
        parts = (jnp.split(array, self.subsets, axis=-1) for array in weights)
        return [
            (product(x, kernel) + bias).reshape(*x.shape[:2], -1)
            for kernel, bias in zip(*parts, strict=True)
        ]


class AdaptiveGraphConv(nn.Module):
    """Mixes joints by adaptive graphs, maps channels, adds, normalises, adds the input."""

    features: int
    parents: tuple[int, ...]

    @nn.compact
    def __call__(self, x, persons: BatchStatistics | None):
        """`[N, V, T, c]` to `[N, V, T, features]`."""
        subsets = len(spatial_subsets(self.parents))
        graphs = self.graphs(Similarity(subsets, self.features // EMBEDDING, name="similarity")(x))
        init = nn.initializers.normal((2 / (subsets * self.features * x.shape[-1])) ** 0.5)
        y = added(
            Pointwise(self.features, init, name=f"conv{k}")(mix_joints(x, graphs[:, k]))
            for k in range(subsets)
        )
        y = Norm(scale_init=nn.initializers.constant(1e-6), name="norm")(y, persons)
        if x.shape[-1] != self.features:
            x = Norm(name="down_norm")(Pointwise(self.features, name="down")(x), persons)
        return nn.relu(y + x)

    def graphs(self, similarity: Float[Array, "N K V V"]) -> Float[Array, "N K V V"]:
        """The graphs of each person."""
        fixed = jnp.asarray(spatial_subsets(self.parents))
        learned = self.param("graph", nn.initializers.constant(1e-6), fixed.shape)
        return fixed + learned + nn.softmax(similarity, axis=2)


def make(settings: AgcnSettings, skeleton: Skeleton) -> SkeletonEncoder:
    """The encoder, for any tree of joints."""
    return graph_encoder((AdaptiveGraphConv, SingleScale), settings, skeleton)


ENTRY = EncoderEntry(
    make,
    AgcnSettings,
    description="2s-AGCN, one stream: bones, a learned graph, and the similarity of joints",
    paper=Paper("Shi et al., CVPR 2019", "https://arxiv.org/abs/1805.07694"),
)
