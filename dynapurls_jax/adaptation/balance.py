"""Soft assignments of samples to classes, balanced so that no class takes all."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def balanced_assignment(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    prior: Float[Array, " C"],
    rounds: int,
    strength: float | Float[Array, ""] = 1.0,
) -> Float[Array, "N C"]:
    """Entropic optimal transport of samples to classes by Sinkhorn's algorithm, in logarithms.

    Each round scales the columns towards `prior` and the rows to 1; rows come last, so that each is
    a distribution. M. Cuturi, "Sinkhorn distances", 2013; as pseudo-labels: Y. M. Asano et al.,
    "Self-labelling via simultaneous clustering and representation learning", 2020. With `strength`
    below 1 columns go only a part of the way, as in unbalanced transport (L. Chizat et al., 2018).

    Args:
      logits: minus infinity where a sample cannot belong to a class.
      weight: how much each sample counts; 0 for an empty place.
      prior: share of each class; 0 where there is none.
      rounds: at least 1; 0 gives a plain softmax.
      strength: exponent of the columns' scaling, in [0, 1].

    Returns:
      Rows that sum to 1; zeros where the weight is 0.
    """
    log_weight = jnp.where(weight > 0, jnp.log(jnp.maximum(weight, 1e-30)), -jnp.inf)
    log_share = jnp.log(jnp.maximum(prior, 1e-30) * jnp.maximum(weight.sum(), 1e-30))
    plan = jax.nn.log_softmax(logits)
    for _ in range(rounds):
        mass = jax.nn.logsumexp(plan + log_weight[:, None], axis=0)
        # A class that nothing can belong to has no mass; scaling it would divide by nothing.
        plan = plan + strength * jnp.where(jnp.isfinite(mass), log_share - mass, 0.0)
        plan = jax.nn.log_softmax(plan)
    return jnp.where(weight[:, None] > 0, jnp.exp(plan), 0.0)


def uniform_prior(active: Bool[Array, " C"]) -> Float[Array, " C"]:
    """The same share for each class that is there."""
    return active / active.sum()
