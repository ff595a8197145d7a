"""Clips of any length and place to the fixed shape and frame that encoders take; augmentation.

What `FIT` names runs once on the host, for training and test alike. `augment` runs on the device
inside the training step, and never at test time; `to_streams` after it, and at test time too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.spatial.transform import Rotation

from data_pipelines.skeletons import Skeleton

# Axes shorter than this (metres) say more about the sensor than about the body.
_MIN_AXIS = 0.05


def normalise(clip: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Moves a clip into the body's own frame: hip at the origin, spine along +z, shoulders along x.

    Origin and axes are those of the first person in the first frame whose axes are not degenerate
    (after 2s-AGCN's pre-normalisation, which takes frame 0 as it comes); one rotation and one shift
    for the whole clip, so that travelling and jumping stay visible. Absent persons and joints that
    were never tracked stay 0.

    Args:
      clip: `[M, T, V, 3]`, metres, any rigid frame.

    Returns:
      `[M, T, V, 3]` float32, metres: x to the subject's right, z up.
    """
    body = clip[0]
    spine = body[:, skeleton.spine_top] - body[:, skeleton.hip_center]
    across = body[:, skeleton.shoulders[0]] - body[:, skeleton.shoulders[1]]
    upright = np.linalg.norm(spine, axis=-1) > _MIN_AXIS
    sideways = across - spine * (
        np.sum(across * spine, axis=-1, keepdims=True)
        / np.maximum(np.sum(spine * spine, axis=-1, keepdims=True), 1e-12)
    )
    usable = upright & (np.linalg.norm(sideways, axis=-1) > _MIN_AXIS)
    frame = int(np.argmax(usable))
    if not usable[frame]:
        rotation = np.eye(3)
    else:
        up = spine[frame] / np.linalg.norm(spine[frame])
        right = sideways[frame] / np.linalg.norm(sideways[frame])
        rotation = np.stack([right, np.cross(up, right), up])
    moved = (clip - body[frame, skeleton.hip_center]) @ rotation.T
    return np.where(np.any(clip != 0, axis=-1, keepdims=True), moved, 0).astype(np.float32)


def resample(clip: np.ndarray, frames: int) -> np.ndarray:
    """Stretches or squeezes time linearly: `[M, T, V, 3]` to `[M, frames, V, 3]`."""
    position = np.linspace(0, clip.shape[1] - 1, frames)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, clip.shape[1] - 1)
    weight = (position - low)[None, :, None, None].astype(clip.dtype)
    return clip[:, low] * (1 - weight) + clip[:, high] * weight


def pad(clip: np.ndarray, frames: int) -> np.ndarray:
    """Cuts after, or fills with zeros up to, `frames` frames (the paper's L = 300 for NTU)."""
    clip = clip[:, :frames]
    return np.pad(clip, ((0, 0), (0, frames - clip.shape[1]), (0, 0), (0, 0)))


def loop(clip: np.ndarray, frames: int) -> np.ndarray:
    """Repeats each person from the first frame until `frames` frames are full.

    A person who is not there in the first frame loses the frames without them; of a clip that is
    too long the rest is cut (2s-AGCN's pre-normalisation, with which Shift-GCN was published).
    """
    clip = pad(clip, frames)
    for person in clip:
        seen = np.any(person != 0, axis=(1, 2))
        if not seen.any():
            continue
        if not seen[0]:
            kept = person[seen]
            person[:] = 0
            person[: len(kept)] = kept
            length = len(kept)
        else:
            length = int(np.flatnonzero(seen)[-1]) + 1
        repeats = -(-frames // length)
        person[:] = np.tile(person[:length], (repeats, 1, 1))[:frames]
    return clip


def normalise_published(clip: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """2s-AGCN's pre-normalisation: every frame centred, axes of the first frame.

    The middle of the first person's spine is the origin of each frame, so that travelling and
    jumping are gone. The first frame's spine turns to +z, then its shoulders (left to right) to +x,
    which tilts the spine again where they do not stand at a right angle.

    Args:
      clip: `[M, T, V, 3]`, metres.

    Returns:
      `[M, T, V, 3]` float32, metres. Absent persons and frames stay 0.
    """
    seen = np.any(clip != 0, axis=(2, 3), keepdims=True)
    moved = (
        clip.astype(np.float64) - clip[:1, :, skeleton.spine_mid : skeleton.spine_mid + 1]
    ) * seen
    body = moved[0, 0]
    upright = _turn(body[skeleton.spine_mid] - body[skeleton.hip_center], (0, 0, 1))
    right, left = skeleton.shoulders
    sideways = _turn(upright.apply(body[right] - body[left]), (1, 0, 0))
    turn = (sideways * upright).as_matrix()
    return (moved @ turn.T).astype(np.float32)


def _turn(direction: np.ndarray, axis: tuple[int, int, int]) -> Rotation:
    """The shortest rotation that brings a direction to an axis."""
    about = np.cross(direction, axis)
    length, norm = np.linalg.norm(about), np.linalg.norm(direction)
    if length < 1e-6 or norm < 1e-6:
        return Rotation.identity()
    return Rotation.from_rotvec(about / length * np.arccos(np.clip(direction @ axis / norm, -1, 1)))


# How a clip comes into the body's frame and to `frames` frames.
FIT = {
    "resample": lambda clip, skeleton, frames: resample(normalise(clip, skeleton), frames),
    "pad": lambda clip, skeleton, frames: pad(normalise(clip, skeleton), frames),
    "published": lambda clip, skeleton, frames: normalise_published(loop(clip, frames), skeleton),
}


def to_streams(
    clips: Float[Array, "B M T V 3"], streams: Sequence[str], parents: Sequence[int]
) -> Float[Array, "B M T V c"]:
    """What the encoder sees of the joints: each stream three channels, in the order of `streams`.

    "joint" is the joints; "bone" each joint minus its parent; "joint_motion" and "bone_motion" the
    next frame minus this one, 0 in the last and where a person comes or goes (two-stream and
    four-stream inputs after 2s-AGCN). Absent persons stay 0. Several streams are fused by the
    encoder's first layer.
    """
    bones = clips - clips[:, :, :, jnp.asarray(parents)]
    seen = jnp.any(clips != 0, axis=(3, 4), keepdims=True)

    def motion(x):
        moved = jnp.where(seen[:, :, 1:] & seen[:, :, :-1], x[:, :, 1:] - x[:, :, :-1], 0)
        return jnp.pad(moved, ((0, 0), (0, 0), (0, 1), (0, 0), (0, 0)))

    made = {
        "joint": lambda: clips,
        "bone": lambda: bones,
        "joint_motion": lambda: motion(clips),
        "bone_motion": lambda: motion(bones),
    }
    return jnp.concatenate([made[name]() for name in streams], axis=-1)


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the train-time augmentation; all zero (and crop 1) is the identity.

    Attributes:
      turn: rotation about the vertical axis, uniform in +-turn radians.
      tilt: rotation about both horizontal axes, uniform in +-tilt radians.
      crop: least share of the clip that a random temporal crop keeps, in (0, 1].
      scale: body size, uniform in 1 +- scale.
      noise: standard deviation of the joint noise, metres.
    """

    turn: float = 0.3
    tilt: float = 0.1
    crop: float = 0.75
    scale: float = 0.1
    noise: float = 0.005


def augment(
    clips: Float[Array, "B M T V 3"], keys: Key[Array, " B"], strength: Augmentation
) -> Float[Array, "B M T V 3"]:
    """Turns, crops, scales and jitters each clip on its own; zeros (absent persons) stay zeros.

    Never mirrors: left and right are part of many classes.
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
    clip = clip[:, low] * (1 - weight) + clip[:, high] * weight
    angles = jax.random.uniform(tilt, (3,), minval=-1, maxval=1) * strength.tilt
    angles = angles.at[2].set(jax.random.uniform(turn, minval=-1, maxval=1) * strength.turn)
    size = 1 + strength.scale * jax.random.uniform(scale, minval=-1, maxval=1)
    moved = size * clip @ _rotation(angles).T
    moved = moved + strength.noise * jax.random.normal(noise, clip.shape)
    return jnp.where(jnp.any(clip != 0, axis=-1, keepdims=True), moved, 0)


def _rotation(angles: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = jnp.cos(angles), jnp.sin(angles)
    about_x = jnp.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = jnp.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = jnp.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
