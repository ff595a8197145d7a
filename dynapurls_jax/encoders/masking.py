"""Present persons and true lengths of clips: masks, weights and packing."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def present_persons(clips: Float[Array, "B M T V c"]) -> Bool[Array, "B M"]:
    """Which persons are present; a person whose coordinates are all exactly zero is absent."""
    return jnp.any(clips != 0, axis=(2, 3, 4))


def person_shares(clips: Float[Array, "B M T V c"]) -> Float[Array, "B M"]:
    """The weight of each person in the mean over the present persons of its clip."""
    persons = present_persons(clips)
    return persons / jnp.maximum(persons.sum(axis=1, keepdims=True), 1)


def clip_lengths(clips: Float[Array, "B M T V c"]) -> Float[Array, " B"]:
    """Frames up to the last one that is not all zero; `T` for a clip of zeros."""
    there = jnp.any(clips != 0, axis=(1, 3, 4))
    last = clips.shape[2] - jnp.argmax(there[:, ::-1], axis=1)
    return last.astype(jnp.float32)


def capacity_for(persons: np.ndarray, most: int, parts: int = 1) -> int:
    """The `capacity` of `pack` on each device: the number of present persons, rounded up.

    It is a multiple of an eighth of all person slots, so that few shapes are compiled.

    Args:
      persons: `[B]` number of present persons in each clip.
      most: `M`, the largest number of persons in a clip.
      parts: number of devices over which the batch is sharded; the capacity fits all of them.
    """
    slots = len(persons) // parts * most
    step = max(1, slots // 8)
    present = int(persons.reshape(parts, -1).sum(axis=1).max())
    return min(slots, max(step, -(-present // step) * step))


def pack(
    x: Float[Array, "c T M V B"], present: Bool[Array, "B M"], capacity: int
) -> tuple[Float[Array, "c T V P"], Float[Array, "P B"]]:
    """Packs the present persons of a batch, so that absent ones are not computed.

    Args:
      capacity: `P`, at least the number of present persons.

    Returns:
      The persons (padded with absent ones), and the weight of each in the mean of its clip: 0 for
      absent ones; NaN if more than `capacity` persons are present.
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
      segments: number of equal parts of that length; a frame on a boundary is in both.
      frames: `T`.
    """
    bounds = jnp.linspace(0, 1, segments + 1) * lengths[:, None]
    start, stop = bounds[:, :-1, None], bounds[:, 1:, None]
    frame = jnp.arange(frames)
    # Bounds such as 2/3 of 12 are not exact in float32, hence the margin.
    inside = (frame + 1 > start + 1e-4) & (frame < stop - 1e-4)
    return inside / inside.sum(axis=-1, keepdims=True)
