"""Soft assignments of samples to classes, balanced so that no class takes all."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def balanced_assignment(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    prior: Float[Array, " C"],
    iterations: int,
    cap: float | Float[Array, ""] = jnp.inf,
) -> Float[Array, "N C"]:
    """Entropic optimal transport of samples to classes by Sinkhorn's algorithm, in logarithms.

    Each iteration moves a bias for each class by what its share lacks of `prior`, then normalises
    each row. M. Cuturi, "Sinkhorn distances", 2013; as pseudo-labels: Y. M. Asano et al.,
    "Self-labelling via simultaneous clustering and representation learning", 2020. The cap is for
    unbalanced streams: a class without samples so far is not filled with those of others.

    Args:
      logits: minus infinity where a sample cannot belong to a class.
      weight: of each sample; 0 for an empty place.
      prior: share of each class; 0 for an inactive one.
      iterations: 0 gives a plain softmax.
      cap: largest absolute bias, in nats; without one the shares become those of the prior.

    Returns:
      Shares of each sample; a row sums to the sample's weight.
    """
    wanted = jnp.log(jnp.maximum(prior * weight.sum(), 1e-6))
    bias = jnp.zeros_like(wanted)

    def share() -> Float[Array, "N C"]:
        return weight[:, None] * jax.nn.softmax(logits + bias)

    for _ in range(iterations):
        bias = jnp.clip(bias + wanted - jnp.log(share().sum(axis=0) + 1e-6), -cap, cap)
    return share()
