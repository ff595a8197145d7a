"""Helpers for pytrees of arrays."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

PyTree = TypeVar("PyTree")


def select(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """`new` where the condition holds, else `old`; both are computed.

    Args:
      condition: a scalar, which may be traced.
      new, old: pytrees of one structure with leaves of the same shapes.
    """
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
