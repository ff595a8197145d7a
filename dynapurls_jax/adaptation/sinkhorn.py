"""Soft assignments of samples to classes, balanced so that no class gets all samples.

Iterations only change a factor for each class of the same softmax `S`: an iteration is two
reductions over `S`, without exponentials.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynapurls_jax.adaptation.api import Number
from dynapurls_jax.adaptation.one_kernel import in_one_kernel

_LARGEST = 1e30  # of factors, and one over it the smallest


def balanced_assignment(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    prior: Float[Array, " C"],
    iterations: int,
) -> Float[Array, "N C"]:
    """Entropic optimal transport of samples to classes by Sinkhorn's algorithm.

    Each iteration multiplies the factor of each class by the ratio of `prior` to the proportion of
    the class, then normalises each row. M. Cuturi, "Sinkhorn distances", 2013; as pseudo-labels:
    Y. M. Asano et al., "Self-labelling via simultaneous clustering and representation learning",
    2020.

    Args:
      logits: minus infinity where a sample cannot belong to a class.
      weight: of each sample; 0 for an empty place.
      prior: proportion of each class; 0 for an inactive one.
      iterations: 0 gives a plain softmax.

    Returns:
      Soft assignments; a row sums to the sample's weight.
    """
    plain, held = jax.nn.softmax(logits), weight[:, None]
    return _balanced(plain, held, prior[None], iterations)


def estimated_prior(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    active: Bool[Array, " C"],
    count: Number,
) -> Float[Array, " C"]:
    """Class proportions of the samples, by five steps of expectation maximisation.

    M. Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", 2002;
    here with a Dirichlet prior, so that the proportions are equal without samples.

    Args:
      logits, weight: see `balanced_assignment`.
      count: pseudo-count of each active class.
    """
    plain, held = jax.nn.softmax(logits), weight[:, None]
    return _prior(plain, held, active[None].astype(jnp.float32), jnp.float32(count))[0]


def _shares(plain, held, factor) -> Float[Array, "N C"]:
    """Soft assignments for a factor `[1, C]` of each class."""
    moved = plain * factor
    return moved * (held / moved.sum(axis=1, keepdims=True))


def _balanced(plain, held, prior, iterations: int) -> Float[Array, "N C"]:
    """`balanced_assignment` of a plain softmax; `held` is `[N, 1]`, `prior` `[1, C]`."""
    wanted = jnp.maximum(prior * held.sum(), 1e-6)
    factor = jnp.ones_like(wanted)
    for _ in range(iterations):
        found = _shares(plain, held, factor).sum(axis=0, keepdims=True)
        factor = jnp.clip(factor * wanted / (found + 1e-6), 1 / _LARGEST, _LARGEST)
    return _shares(plain, held, factor)


def _prior(plain, held, active, count) -> Float[Array, "1 C"]:
    """`estimated_prior` of a plain softmax; `active` is `[1, C]`."""
    total = held.sum() + count * active.sum()
    prior = active / active.sum()
    for _ in range(5):
        found = _shares(plain, held, jnp.maximum(prior, 1e-9)).sum(axis=0, keepdims=True)
        prior = (found + count * active) / total
    return prior


def window_shares(
    logits: Float[Array, "N C"],
    weight: Float[Array, " N"],
    active: Bool[Array, " C"],
    count: Number,
    iterations: int,
) -> Float[Array, "N C"]:
    """`balanced_assignment` with the `estimated_prior`; on a TPU in one kernel."""

    def shares(logits, held, active, count):
        plain = jax.nn.softmax(logits)
        prior = _prior(plain, held, active, count)
        return _balanced(plain, held, prior, iterations)

    row = active[None].astype(jnp.float32)
    return in_one_kernel(shares, logits, weight[:, None], row, jnp.full((1, 1), count, jnp.float32))
