"""The Transformer encoder that the text towers share, and how published weights get into it.

CLIP normalises before attention and after it, BERT only after; masks, activations and the epsilon
differ too. All else is the same, down to the names of parameters below.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

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
        """`[N, L, width]`; where the mask is False nothing is read."""
        split = (*x.shape[:2], self.heads, -1)
        q, k, v = (
            nn.Dense(x.shape[-1], dtype=self.dtype, name=name)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        read = jax.nn.dot_product_attention(q, k, v, mask=mask)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="out")(read.reshape(x.shape))


class Layer(nn.Module):
    """Attention, then a two-layer perceptron, both residual."""

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
        # Statistics are float32 whatever the features are.
        norm_1, norm_2 = (
            nn.LayerNorm(self.epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)
            for name in ("norm_1", "norm_2")
        )

        def perceptron(x):
            x = nn.Dense(self.hidden, dtype=self.dtype, name="expand")(x)
            return nn.Dense(y.shape[-1], dtype=self.dtype, name="shrink")(
                ACTIVATIONS[self.activation](x)
            )

        y = x
        if self.norm_first:
            y = y + attention(norm_1(y).astype(self.dtype), mask)
            return y + perceptron(norm_2(y).astype(self.dtype))
        y = norm_1(y + attention(y, mask)).astype(self.dtype)
        return norm_2(y + perceptron(y)).astype(self.dtype)


def exact_jit(function: Callable) -> Callable:
    """`jax.jit` with float32 products as they are on all devices: vectors outlive the device."""

    def exact(*arguments):
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return jax.jit(exact)


# Parameter of a layer to its place in the two families of published weights.
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


def layer_params(weights: Mapping[str, np.ndarray], prefix: str, names: dict[str, str]) -> dict:
    """The parameters of a `Layer` from published weights.

    Args:
      weights: tensors by their published names.
      prefix: of the layer, such as "encoder.layer.0".
      names: `CLIP_LAYER` or `BERT_LAYER`.
    """
    params: dict = {"attention": {}}
    for ours, theirs in names.items():
        part, _, last = ours.rpartition("/")
        read = norm_params if last.startswith("norm") else dense_params
        (params[part] if part else params)[last] = read(weights, f"{prefix}.{theirs}")
    return params


def dense_params(weights: Mapping[str, np.ndarray], name: str) -> dict:
    """Kernel and bias of `nn.Dense`."""
    return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}


def norm_params(weights: Mapping[str, np.ndarray], name: str) -> dict:
    """Scale and bias of `nn.LayerNorm`."""
    return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}
