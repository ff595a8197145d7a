"""Masks of a clip: its persons and its length. Absent persons and frames take no part."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def present_persons(clips: Float[Array, "B M T V c"]) -> Bool[Array, "B M"]:
    """A person whose coordinates are all exactly zero is absent."""
    return jnp.any(clips != 0, axis=(2, 3, 4))


def person_shares(clips: Float[Array, "B M T V c"]) -> Float[Array, "B M"]:
    """The share of each person in the mean over those that are present."""
    persons = present_persons(clips)
    return persons / jnp.maximum(persons.sum(axis=1, keepdims=True), 1)


def clip_lengths(clips: Float[Array, "B M T V c"]) -> Float[Array, " B"]:
    """Frames up to the last one that is not all zero; `T` for a clip without any."""
    there = jnp.any(clips != 0, axis=(1, 3, 4))
    last = clips.shape[2] - jnp.argmax(there[:, ::-1], axis=1)
    return last.astype(jnp.float32)


def capacity_for(persons: np.ndarray, most: int, parts: int = 1) -> int:
    """Persons to compute on a device for a batch, for `pack`.

    The number that are present, rounded up to one of at most eight steps: each is compiled once.

    Args:
      persons: `[B]` how many each clip has.
      most: `M`, how many a clip may have.
      parts: devices among which the batch is divided; that with most persons decides.
    """
    slots = len(persons) // parts * most
    step = max(1, slots // 8)
    present = int(persons.reshape(parts, -1).sum(axis=1).max())
    return min(slots, max(step, -(-present // step) * step))


def pack(
    x: Float[Array, "c T M V B"], present: Bool[Array, "B M"], capacity: int
) -> tuple[Float[Array, "c T V P"], Float[Array, "P B"]]:
    """Present persons side by side, so that absent ones cost nothing.

    Args:
      capacity: `P`, at least the number of present persons.

    Returns:
      The persons (filled up with absent ones), and the share of each in its clip's mean: 0 for the
      absent, NaN if there are more persons than places.
    """
    c, frames, m, joints, b = x.shape
    persons = x.transpose(0, 1, 3, 2, 4).reshape(c, frames, joints, m * b)
    mask = present.T.reshape(m * b)
    clip = jnp.tile(jnp.arange(b), m)
    if capacity < m * b:
        order = jnp.argsort(~mask, stable=True)[:capacity]
        persons, mask, clip = persons[..., order], mask[order], clip[order]
    share = mask / jnp.maximum(present.sum(axis=1), 1)[clip]
    share = jnp.where(present.sum() > capacity, jnp.nan, share)
    return persons, share[:, None] * (clip[:, None] == jnp.arange(b))


def segment_weights(
    lengths: Float[Array, " B"], segments: int, frames: int
) -> Float[Array, "B segments T"]:
    """Weights of feature frames in the mean of each segment of a clip.

    Args:
      lengths: of the clips, in feature frames; may be fractions.
      segments: equal parts of that length; a frame on a border belongs to both sides.
      frames: `T`.
    """
    bounds = jnp.linspace(0, 1, segments + 1) * lengths[:, None]
    start, stop = bounds[:, :-1, None], bounds[:, 1:, None]
    frame = jnp.arange(frames)
    # Bounds such as 2/3 of 12 are not exact in float32, hence the margin.
    inside = (frame + 1 > start + 1e-4) & (frame < stop - 1e-4)
    return inside / inside.sum(axis=-1, keepdims=True)
