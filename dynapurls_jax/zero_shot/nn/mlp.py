"""Multilayer perceptrons as plain pytrees, for methods with several small networks."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Layers = dict[str, dict[str, Any]]  # "layer0", "layer1", ...
INIT = jax.nn.initializers.lecun_normal()


def init_layers(key: PRNGKeyArray, *widths: int, init: Callable = INIT) -> Layers:
    """Dense layers between consecutive widths, with zero biases.

    Args:
      init: initializer of the kernels, `(key, shape) -> array`.
    """
    shapes = pairwise(widths)
    return {
        f"layer{number}": init_dense(jax.random.fold_in(key, number), *shape, init=init)
        for number, shape in enumerate(shapes)
    }


def init_dense(
    key: PRNGKeyArray, width: int, outputs: int, init: Callable = INIT
) -> dict[str, Any]:
    """One layer."""
    return {"kernel": init(key, (width, outputs)), "bias": jnp.zeros(outputs)}


def dense(layer: dict[str, Any], x: Float[Array, "*B n"]) -> Float[Array, "*B m"]:
    """One layer, without activation."""
    return x @ layer["kernel"] + layer["bias"]


def mlp(
    layers: Layers, x: Float[Array, "*B n"], activations: Sequence[Callable], first: int = 0
) -> Float[Array, "*B m"]:
    """The layers, each followed by its activation; the last may have none.

    Args:
      activations: of the layers from `first`.
      first: the layer that takes `x`.
    """
    for number in range(first, len(layers)):
        x = dense(layers[f"layer{number}"], x)
        if number - first < len(activations):
            x = activations[number - first](x)
    return x
