"""The uncertainty of predictions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def normalized_entropy(logits: Float[Array, "B C"]) -> Float[Array, " B"]:
    """The entropy of predictions (eq. 17) as a fraction of its maximum, log C: from 0 to 1.

    Args:
      logits: minus infinity for inactive classes, which `C` does not count.
    """
    classes = jnp.isfinite(logits).sum(axis=-1)
    nats = jax.scipy.special.entr(jax.nn.softmax(logits)).sum(axis=-1)
    return nats / jnp.log(jnp.maximum(classes, 2))
