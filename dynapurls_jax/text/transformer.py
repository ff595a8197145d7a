"""The Transformer layer of both text towers, its published weights, and encoding in batches.

CLIP normalises before each residual branch, BERT after it; masks, activations and epsilon differ
too. The rest is shared.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Bool, Float

BATCH = 64  # texts

ACTIVATIONS: dict[str, Callable] = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017)."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "N L width"], mask: Bool[Array, "#N 1 #L L"]):
        """`[N, L, width]`; positions where the mask is False are not attended to."""
        split = (*x.shape[:2], self.heads, -1)
        q, k, v = (
            nn.Dense(x.shape[-1], dtype=self.dtype, name=name)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        gathered = jax.nn.dot_product_attention(q, k, v, mask=mask)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="out")(gathered.reshape(x.shape))


class Layer(nn.Module):
    """Attention, then a two-layer perceptron, both residual.

    Attributes:
      heads: of the attention.
      hidden: width of the perceptron's hidden layer.
      activation: a name of `ACTIVATIONS`.
      epsilon: of layer normalisation.
      norm_first: normalise before each branch (CLIP), not after it (BERT).
      dtype: of features; normalisation is float32.
    """

    heads: int
    hidden: int
    activation: str
    epsilon: float
    norm_first: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "N L width"], mask: Bool[Array, "#N 1 #L L"]):
        """`[N, L, width]`."""
        attention = Attention(self.heads, self.dtype, name="attention")
        norm_1, norm_2 = (
            nn.LayerNorm(self.epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)
            for name in ("norm_1", "norm_2")
        )

        def perceptron(x):
            width = x.shape[-1]
            x = ACTIVATIONS[self.activation](
                nn.Dense(self.hidden, dtype=self.dtype, name="expand")(x)
            )
            return nn.Dense(width, dtype=self.dtype, name="shrink")(x)

        if self.norm_first:
            x = x + attention(norm_1(x).astype(self.dtype), mask)
            return x + perceptron(norm_2(x).astype(self.dtype))
        x = norm_1(x + attention(x, mask)).astype(self.dtype)
        return norm_2(x + perceptron(x)).astype(self.dtype)


def layers_of(config: Any, norm_first: bool, dtype: Any) -> list[Layer]:
    """The layers of a published config, with the attribute names of `transformers`."""
    c = config
    sizes = (c.num_attention_heads, c.intermediate_size, c.hidden_act, c.layer_norm_eps)
    return [Layer(*sizes, norm_first, dtype) for _ in range(c.num_hidden_layers)]


def exact_jit(function: Callable) -> Callable:
    """`jax.jit` with matrix products of full float32 precision on every device.

    Cached vectors are then valid for all devices.
    """

    def exact(*arguments):
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return jax.jit(exact)


def encode_in_batches(encode: Callable[[list[str]], Array], texts: list[str]) -> np.ndarray:
    """Vectors `[N, d]` of texts, encoded in batches of one size.

    Args:
      encode: `BATCH` texts to vectors `[BATCH, d]`.
    """
    vectors = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        padded = batch + [""] * (BATCH - len(batch))
        vectors.append(np.asarray(encode(padded))[: len(batch)])
    return np.concatenate(vectors)


# Parameter of `Layer` to its name in the two families of published weights.
CLIP_LAYER = {
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/out": "self_attn.out_proj",
    "norm_1": "layer_norm1",
    "norm_2": "layer_norm2",
    "expand": "mlp.fc1",
    "shrink": "mlp.fc2",
}
BERT_LAYER = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "norm_1": "attention.output.LayerNorm",
    "norm_2": "output.LayerNorm",
    "expand": "intermediate.dense",
    "shrink": "output.dense",
}


def layer_params(
    weights: Mapping[str, np.ndarray], prefix: str, num_layers: int, names: dict[str, str]
) -> dict:
    """The parameters of the layers from published weights, as `layers_0`, `layers_1`, ...

    Args:
      weights: tensors by their published names.
      prefix: of all layers, such as "encoder.layer".
      names: `CLIP_LAYER` or `BERT_LAYER`.
    """
    flat = {}
    for layer in range(num_layers):
        for parameter, published in names.items():
            convert = norm_params if parameter.startswith("norm") else dense_params
            found = convert(weights, f"{prefix}.{layer}.{published}")
            flat[f"layers_{layer}/{parameter}"] = found
    return unflatten_dict(flat, sep="/")


def dense_params(weights: Mapping[str, np.ndarray], name: str) -> dict:
    """Kernel and bias of `nn.Dense`."""
    return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}


def norm_params(weights: Mapping[str, np.ndarray], name: str) -> dict:
    """Scale and bias of `nn.LayerNorm`."""
    return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}
