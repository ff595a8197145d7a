"""Soft assignments of samples to classes, balanced so that no class takes all."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynapurls_jax.adaptation.api import Number


def balanced_assignment(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    prior: Float[Array, " C"],
    iterations: int,
) -> Float[Array, "N C"]:
    """Entropic optimal transport of samples to classes by Sinkhorn's algorithm, in logarithms.

    Each iteration moves a bias for each class by what its share lacks of `prior`, then normalises
    each row. M. Cuturi, "Sinkhorn distances", 2013; as pseudo-labels: Y. M. Asano et al.,
    "Self-labelling via simultaneous clustering and representation learning", 2020.

    Args:
      logits: minus infinity where a sample cannot belong to a class.
      weight: of each sample; 0 for an empty place.
      prior: share of each class; 0 for an inactive one.
      iterations: 0 gives a plain softmax.

    Returns:
      Shares of each sample; a row sums to the sample's weight.
    """
    wanted = jnp.log(jnp.maximum(prior * weight.sum(), 1e-6))
    bias = jnp.zeros_like(wanted)

    def share() -> Float[Array, "N C"]:
        return weight[:, None] * jax.nn.softmax(logits + bias)

    for _ in range(iterations):
        bias = bias + wanted - jnp.log(share().sum(axis=0) + 1e-6)
    return share()


def estimated_prior(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    active: Bool[Array, " C"],
    count: Number,
) -> Float[Array, " C"]:
    """Class shares of the samples, by five steps of expectation maximisation.

    M. Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", 2002;
    here with a Dirichlet prior, under which the shares are equal until there are samples.

    Args:
      logits, weight: see `balanced_assignment`.
      count: samples that each active class has beside those that were seen.
    """
    total = weight.sum() + count * active.sum()
    prior = active / active.sum()
    for _ in range(5):
        share = weight[:, None] * jax.nn.softmax(logits + jnp.log(jnp.maximum(prior, 1e-9)))
        prior = (share.sum(axis=0) + count * active) / total
    return prior
