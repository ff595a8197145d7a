"""Soft assignments of samples to classes, balanced so that no class takes all."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def balanced_assignment(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    prior: Float[Array, " C"],
    rounds: int,
    cap: float | Float[Array, ""] = jnp.inf,
) -> Float[Array, "N C"]:
    """Entropic optimal transport of samples to classes by Sinkhorn's algorithm, in logarithms.

    Each round moves a bias for each class by what its share lacks of `prior`, then makes each row a
    distribution. M. Cuturi, "Sinkhorn distances", 2013; as pseudo-labels: Y. M. Asano et al.,
    "Self-labelling via simultaneous clustering and representation learning", 2020. The cap is what
    keeps a stream balanced that is not: a class that did not come yet is not filled with others'.

    Args:
      logits: minus infinity where a sample cannot belong to a class.
      weight: how much each sample counts; 0 for an empty place.
      prior: share of each class; 0 where there is none.
      rounds: 0 gives a plain softmax.
      cap: how far a bias may go, in nats; without one the shares become those of the prior.

    Returns:
      Rows that sum to their weight.
    """
    wanted = jnp.log(jnp.maximum(prior * weight.sum(), 1e-6))
    bias = jnp.zeros_like(wanted)

    def share() -> Float[Array, "N C"]:
        return weight[:, None] * jax.nn.softmax(logits + bias)

    for _ in range(rounds):
        bias = jnp.clip(bias + wanted - jnp.log(share().sum(axis=0) + 1e-6), -cap, cap)
    return share()


def uniform_prior(active: Bool[Array, " C"]) -> Float[Array, " C"]:
    """The same share for each class that is there."""
    return active / active.sum()


def estimated_prior(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    active: Bool[Array, " C"],
    smoothing: float | int | Array,
    rounds: int = 3,
) -> Float[Array, " C"]:
    """Shares of the classes by expectation and maximisation, from uniform ones.

    M. Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", 2002.

    Args:
      smoothing: samples of each class that are thought to be there already.
    """
    prior = uniform_prior(active)
    for _ in range(rounds):
        log_prior = jnp.where(active, jnp.log(jnp.maximum(prior, 1e-9)), -jnp.inf)
        count = (weight[:, None] * jax.nn.softmax(logits + log_prior)).sum(axis=0)
        prior = jnp.where(active, count + smoothing, 0)
        prior = prior / prior.sum()
    return prior
