"""Linear interpolation in time, inside a TPU kernel, as weighted sums over whole frames."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int


def reach(place: Float[Array, "1 L"], stride: int, frames: int) -> Int[Array, "2"]:
    """The first and the last step that any lane reads, limited to the length of the clip.

    Args:
      place: displacement of each lane, frames.
      stride: frames of a step.
      frames: length of the clip, steps.
    """
    low, high = jnp.floor(place.min()), jnp.floor(place.max()) + 1
    bounds = jnp.floor(jnp.stack([low, high]) / stride)
    bounds = jnp.clip(jnp.nan_to_num(bounds), -frames, frames)  # weights keep the NaN
    return bounds.astype(jnp.int32)


def share_of(place, k):
    """The weight of frame `k` in the interpolation at a place."""
    return jnp.maximum(1 - jnp.abs(place - k), 0)


def slope_of(place, k):
    """The derivative of the weight of frame `k` by the place; the right one at whole frames."""
    before = jnp.floor(place)
    return jnp.where(k == before, -1.0, jnp.where(k == before + 1, 1.0, 0.0))


def read(source, start, length, bounds, weights, part):
    """`sum_k weights[i](k) * source[start + k]` for each of the weights, `[length, rows, lanes]`.

    Args:
      source: `[frames, stride, rows, L]`, padded.
      start: first step, traced.
      length: number of steps.
      bounds: the first and the last step of the sum, see `reach`.
      weights: functions of k to `[1, L]`.
      part: slice of the lanes.
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
