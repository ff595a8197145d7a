"""Linear interpolation in time, inside of a TPU kernel: sums over whole places."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int


def reach(place: Float[Array, "1 L"], stride: int, frames: int) -> Int[Array, "2"]:
    """The first and the last step of `stride` frames that any lane reads, inside of the clip."""
    low, high = jnp.floor(place.min()), jnp.floor(place.max()) + 1
    bounds = jnp.floor(jnp.stack([low, high]) / stride)
    bounds = jnp.clip(jnp.nan_to_num(bounds), -frames, frames)  # NaN is in the weights anyway
    return bounds.astype(jnp.int32)


def share_of(place, k):
    """The weight of frame k."""
    return jnp.maximum(1 - jnp.abs(place - k), 0)


def slope_of(place, k):
    """The derivative of the weight by the place: that of the interpolation to the right."""
    before = jnp.floor(place)
    return jnp.where(k == before, -1.0, jnp.where(k == before + 1, 1.0, 0.0))


def read(source, start, length, bounds, weights, part):
    """`sum_k weights[i](k) * source[start + k]` of some frames and lanes, for each of the weights.

    Args:
      source: `[frames, stride, rows, L]`, padded.
      start: of the frames, a traced number; `length` of them, in steps of the stride.
      bounds: the first and the last step.
      weights: functions of k to `[1, L]`.
    """
    stride, rows = source.shape[1:3]
    width = part.stop - part.start

    def add(step, sums):
        for parity in range(stride):
            tile = source[pl.ds(start + step, length), parity, :, part]
            k = (stride * step + parity).astype(jnp.float32)
            sums = [total + weight(k) * tile for total, weight in zip(sums, weights, strict=True)]
        return sums

    zero = jnp.zeros((length, rows, width), jnp.float32)
    return jax.lax.fori_loop(bounds[0], bounds[1] + 1, add, [zero] * len(weights))


def read_back(source, start, length, bounds, weight, part):
    """The transpose of `read` for one parity: `sum_step weight(step) * source[start - step]`."""
    rows, width = source.shape[2], part.stop - part.start

    def add(step, total):
        return total + weight(step) * source[pl.ds(start - step, length), 0, :, part]

    return jax.lax.fori_loop(
        bounds[0], bounds[1] + 1, add, jnp.zeros((length, rows, width), jnp.float32)
    )
