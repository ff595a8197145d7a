"""Test-time methods as pairs of pure functions, and the one scan that runs them all."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from dynapurls_jax.alignment.partition import Text, Visual

State = Any  # a pytree of fixed shapes; each adapter documents its own


class Prediction(NamedTuple):
    """What a method says of one sample, before it learns from it.

    Attributes:
      label: position in `Text.classes`.
      confidence: the winner's probability.
      logits: of all classes.
      admitted: whether the sample was confident enough to learn from.
      adapted: whether the method updated itself after it.
    """

    label: Int[Array, ""]
    confidence: Float[Array, ""]
    logits: Float[Array, " C"]
    admitted: Bool[Array, ""]
    adapted: Bool[Array, ""]


class Adapter(NamedTuple):
    """A test-time method.

    Attributes:
      init: `text -> state`.
      step: `(state, visual of one sample) -> (state, prediction)`. Pure, of fixed shapes; no label
        ever comes near it.
    """

    init: Callable[[Text], State]
    step: Callable[[State, Visual], tuple[State, Prediction]]


@partial(jax.jit, static_argnums=0)
def run_stream(adapter: Adapter, state: State, stream: Visual) -> tuple[State, Prediction]:
    """Runs a method over a stream of samples, in order, as one `lax.scan`.

    Args:
      adapter: the method; compiled once for each adapter object and shape.
      state: from `adapter.init`, or from an earlier call: streams can be continued.
      stream: samples along the leading axis.

    Returns:
      The last state, and the predictions with a leading axis of samples.
    """
    return jax.lax.scan(adapter.step, state, stream)
