"""Symmetric InfoNCE (eq. 10-11)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def symmetric_info_nce(
    logits: Float[Array, "B C G"], labels: Int[Array, " B"], weights: Float[Array, " G"]
) -> Float[Array, ""]:
    """Mean over the batch of eq. 10, summed over granularities with `weights` (eq. 11).

    Skeleton to text: the sample's class against all seen classes. Text to skeleton: the sample
    against the whole batch, other samples of its class included.

    Args:
      logits: similarity over tau of sample b, with the queries of class c, and the text of class c.
      labels: index into the class axis of `logits`.
      weights: alpha.
    """
    batch = jnp.arange(logits.shape[0])
    to_text = jax.nn.log_softmax(logits, axis=1)[batch, labels]
    to_skeleton = jax.nn.log_softmax(logits, axis=0)[batch, labels]
    per_granularity = -0.5 * (to_text + to_skeleton).mean(axis=0)
    return jnp.sum(weights * per_granularity)


def class_hinge(
    visual: Float[Array, "B e"],
    classes: Float[Array, "C e"],
    labels: Int[Array, " B"],
    margin: float,
) -> Float[Array, ""]:
    """Mean over clips of `sum over all c of max(0, v t_c - v t_y + m)` (the hinge of ReViSE).

    The own class is in the sum and adds the constant `m`. As in the published code, the gradient
    of text comes from `t_y` alone.
    """
    own = jnp.sum(visual * classes[labels], axis=-1, keepdims=True)
    dots = visual @ jax.lax.stop_gradient(classes).T
    return jnp.maximum(0, dots - own + margin).sum(axis=1).mean()
