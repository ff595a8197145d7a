"""How sure a prediction is, and which ones are sure enough to learn from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Array, Bool, Float, Int


def confidence(kind: str, logits: Float[Array, "B C"]) -> Float[Array, " B"]:
    """How sure each prediction is; higher is surer.

    Args:
      kind: "max": the winner's probability (Algorithm 1), from 1/C to 1. "ratio": that over 1/C,
        from 1 to C. "margin": the winner's probability less the second's, from 0 to 1. "entropy":
        1 - H(p) / log C, from 0 to 1. C counts the classes whose logits are finite.
    """
    p = jax.nn.softmax(logits)
    classes = jnp.sum(jnp.isfinite(logits), axis=-1)
    if kind == "max":
        return p.max(axis=-1)
    if kind == "ratio":
        return p.max(axis=-1) * classes
    if kind == "margin":
        best, second = jax.lax.top_k(jnp.pad(p, ((0, 0), (0, 1))), 2)[0].T
        return best - second
    return 1 - entr(p).sum(axis=-1) / jnp.log(jnp.maximum(classes, 2))


class Recent(NamedTuple):
    """The last `W` confidences of a stream; a ring.

    Attributes:
      values: NaN where nothing came yet.
      total: how many came so far.
    """

    values: Float[Array, " W"]
    total: Int[Array, ""]


def nothing_yet(window: int) -> Recent:
    """An empty ring of `window` confidences."""
    return Recent(jnp.full(window, jnp.nan), jnp.zeros((), jnp.int32))


def above_quantile(recent: Recent, values: Float[Array, " B"], quantile) -> Bool[Array, " B"]:
    """Which confidences exceed a quantile of the recent ones; all of them at the start."""
    bar = jnp.nanquantile(recent.values, quantile)
    return ~(values <= bar)  # NaN while the ring is empty


def remember(recent: Recent, values: Float[Array, " B"], usable: Bool[Array, " B"]) -> Recent:
    """Puts the usable confidences of a chunk into the ring."""
    window = len(recent.values)
    number = recent.total + jnp.cumsum(usable) - 1
    total = recent.total + usable.sum()
    last = usable & (number >= total - window)  # of a chunk longer than the ring
    place = jnp.where(last, number % window, window)
    return Recent(recent.values.at[place].set(values, mode="drop"), total)
