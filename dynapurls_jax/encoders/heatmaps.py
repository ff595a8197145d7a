"""Heatmaps of joints in the frontal plane, the input of PoseC3D."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.encoders.masking import clip_lengths

_SIGMA = 0.6  # pixels
_CUT = 3 * _SIGMA  # pixels
_BOX = 1.25  # side of the box, in largest extents of the keypoints
_SHORTEST = 1e-6  # metres: lower bound of that side


def sampled(clips: Float[Array, "B M T V 3"], frames: int) -> Float[Array, "B M F V 3"]:
    """The middle frames of `F` equal parts of each clip's true length."""
    place = (jnp.arange(frames) + 0.5) * clip_lengths(clips)[:, None] / frames
    return jnp.take_along_axis(clips, place.astype(int)[:, None, :, None, None], axis=2)


def in_pixels(clips: Float[Array, "B M F V 3"], size: int) -> Float[Array, "B M F V 2"]:
    """Columns and rows of the joints, seen from the front, in an image of `size` x `size` pixels.

    The image is a square box around the joints of all frames and present persons of a clip.

    Args:
      clips: metres, x to the subject's right, z up.
    """
    there = jnp.any(clips != 0, axis=(3, 4), keepdims=True)
    flat = -clips[..., ::2]
    axes = (1, 2, 3)
    low = jnp.where(there, flat, jnp.inf).min(axis=axes, keepdims=True)
    high = jnp.where(there, flat, -jnp.inf).max(axis=axes, keepdims=True)
    low, high = (jnp.where(jnp.isfinite(bound), bound, 0) for bound in (low, high))
    side = _BOX * jnp.maximum((high - low).max(axis=-1, keepdims=True), _SHORTEST)
    return size * ((flat - (low + high) / 2) / side + 0.5)


def joint_heatmaps(
    clips: Float[Array, "B M T V 3"], frames: int, size: int
) -> Float[Array, "B F H W V"]:
    """A Gaussian at each joint of the sampled frames, the maximum over present persons.

    Its standard deviation is 0.6 pixels, and it is 0 beyond three of them in either direction.

    Args:
      clips: metres, x to the subject's right, z up.
      frames: `F`.
      size: `H = W`, pixels.
    """
    clips = sampled(clips, frames)
    there = jnp.any(clips != 0, axis=(3, 4))[..., None, None, None]
    away = in_pixels(clips, size)[:, :, :, None] - jnp.arange(size)[:, None, None]
    bells = jnp.exp(-0.5 * (away / _SIGMA) ** 2)
    bells = jnp.where(there & (jnp.abs(away) <= _CUT), bells, 0)
    columns, rows = bells[..., 0], bells[..., 1]  # [B, M, F, size, V]
    return (rows[..., :, None, :] * columns[..., None, :, :]).max(axis=1)
