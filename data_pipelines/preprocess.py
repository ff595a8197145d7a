"""Augmentation and input streams, on the device.

`augment` runs in the training step only. `to_streams` runs after it, and at test time.
`temporal_sampling` precedes both, on the host.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from data_pipelines.settings import Augmentation


def to_streams(
    clips: Float[Array, "B M T V 3"], streams: Sequence[str], parents: Sequence[int]
) -> Float[Array, "B M T V c"]:
    """Input of the encoder: three channels for each stream, in the order of `streams`.

    "joint": joint positions. "bone": each joint minus its parent. "joint_motion" and "bone_motion":
    the next frame minus the current one, 0 in the last frame and where a person appears or
    disappears (as the two and four streams of 2s-AGCN). Absent persons stay 0.

    Args:
      streams: elements of `settings.STREAMS`.
      parents: `V` parent indices; the root is its own parent.
    """
    bones = clips - clips[:, :, :, jnp.asarray(parents)]
    present = jnp.any(clips != 0, axis=(3, 4), keepdims=True)

    def motion(x):
        moved = jnp.where(present[:, :, 1:] & present[:, :, :-1], x[:, :, 1:] - x[:, :, :-1], 0)
        return jnp.pad(moved, ((0, 0), (0, 0), (0, 1), (0, 0), (0, 0)))

    def stream(name):
        source = bones if name.startswith("bone") else clips
        return motion(source) if name.endswith("motion") else source

    return jnp.concatenate([stream(name) for name in streams], axis=-1)


def augment(
    clips: Float[Array, "B M T V 3"], keys: Key[Array, " B"], strength: Augmentation
) -> Float[Array, "B M T V 3"]:
    """Rotates, crops, scales and adds noise to each clip independently; zeros stay zeros.

    Clips are never mirrored, since many classes depend on left and right.

    Args:
      clips: metres, in the body's frame; zeros where a person is absent.
      keys: one per clip.
    """
    return jax.vmap(lambda clip, key: _augment_one(clip, key, strength))(clips, keys)


def _augment_one(clip, key, strength):
    turn, tilt, crop, scale, noise = jax.random.split(key, 5)
    frames = clip.shape[1]
    share = jax.random.uniform(crop, minval=strength.crop, maxval=1.0)
    first = jax.random.uniform(jax.random.fold_in(crop, 1)) * (1 - share)
    position = (first + share * jnp.linspace(0, 1, frames)) * (frames - 1)
    low = jnp.floor(position).astype(jnp.int32)
    high = jnp.minimum(low + 1, frames - 1)
    weight = (position - low)[None, :, None, None]
    mixed = clip[:, low] * (1 - weight) + clip[:, high] * weight
    # As in `temporal_sampling.resample`: interpolation with zeros would shrink the body.
    present = jnp.any(clip != 0, axis=(2, 3), keepdims=True)
    nearest = jnp.where(weight < 0.5, clip[:, low], clip[:, high])
    clip = jnp.where(present[:, low] & present[:, high], mixed, nearest)
    angles = jax.random.uniform(tilt, (3,), minval=-1, maxval=1) * strength.tilt
    angles = angles.at[2].set(jax.random.uniform(turn, minval=-1, maxval=1) * strength.turn)
    size = 1 + strength.scale * jax.random.uniform(scale, minval=-1, maxval=1)
    moved = size * clip @ _rotation(angles).T
    moved = moved + strength.noise * jax.random.normal(noise, clip.shape)
    return jnp.where(jnp.any(clip != 0, axis=-1, keepdims=True), moved, 0)


def _rotation(angles: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Rotation about x, then y, then z; radians."""
    (cx, cy, cz), (sx, sy, sz) = jnp.cos(angles), jnp.sin(angles)
    about_x = jnp.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = jnp.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = jnp.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
