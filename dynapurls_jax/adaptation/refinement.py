"""Eq. 12: scale and bias on the class vectors."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynapurls_jax.zero_shot.base import Candidates, unit


class Refinement(NamedTuple):
    """The parameters `S` and `Delta F`, for the `R` granularities that are scored.

    Other granularities have no gradient.
    """

    scale: Float[Array, "C R e"]
    bias: Float[Array, "C R e"]


def no_refinement(classes: Float[Array, "C R e"]) -> Refinement:
    """The parameters that change nothing."""
    return Refinement(jnp.ones_like(classes), jnp.zeros_like(classes))


def refine(candidates: Candidates, refinement: Refinement, active: Bool[Array, " C"]) -> Candidates:
    """Eq. 12 for the classes, and eq. 13 for label-free queries.

    Eq. 13 of the paper refines queries of classes. Label-free queries have no class, so they get
    the mean scale and bias of the active classes.

    Args:
      candidates: in the granularities that are scored.
    """
    classes = unit(refinement.scale * candidates.classes + refinement.bias)
    if candidates.query is None:
        return Candidates(classes)
    share = active / active.sum()
    # A matrix product, whose gradient is one too.
    flat = (share[None] @ leaf.reshape(len(leaf), -1) for leaf in refinement)
    scale, bias = (mean.reshape(candidates.query.shape) for mean in flat)
    return Candidates(classes, unit(scale * candidates.query + bias))
