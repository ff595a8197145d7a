"""Kinematic statistics of each joint and segment of time: an encoder without parameters.

Coordinates are relative to the hip centre of the same frame and in units of the person's mean spine
length, so that tokens do not depend on the position and size of a person. The hip centre itself
would be zero: its coordinates are the root trajectory instead, relative to the first frame.
"""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import EncoderEntry
from dynapurls_jax.encoders.masking import clip_lengths, person_shares, segment_weights
from dynapurls_jax.registry import check_at_least, check_choice

_MIN_SPINE = 1e-3  # metres: lower bound of the measured length

Joints = Float[Array, "B M T V 3"]


def _mean(x: Joints, weight: Float[Array, "B M T"]) -> Float[Array, "B M V 3"]:
    total = jnp.maximum(weight.sum(axis=2), 1e-9)[:, :, None, None]
    return jnp.einsum("bmtvc,bmt->bmvc", x, weight) / total


def _std(x: Joints, weight: Float[Array, "B M T"]) -> Float[Array, "B M V 3"]:
    away = x - _mean(x, weight)[:, :, None]
    return jnp.sqrt(_mean(away * away, weight))


def _velocity(x: Joints, weight: Float[Array, "B M T"]) -> Float[Array, "B M V 3"]:
    both = weight[:, :, 1:] * (weight[:, :, :-1] > 0)
    return _mean(jnp.abs(x[:, :, 1:] - x[:, :, :-1]), both)


def _range(x: Joints, weight: Float[Array, "B M T"]) -> Float[Array, "B M V 3"]:
    there = (weight > 0)[..., None, None]
    high = jnp.where(there, x, -jnp.inf).max(axis=2)
    low = jnp.where(there, x, jnp.inf).min(axis=2)
    return jnp.where(there.any(axis=2), high - low, 0.0)


# Statistics of each coordinate over the frames of a segment. "velocity" is the mean absolute change
# from frame to frame, "range" the largest minus the smallest value.
STATISTICS: dict[str, Callable] = {
    "mean": _mean,
    "std": _std,
    "velocity": _velocity,
    "range": _range,
}


@dataclass(frozen=True)
class KinematicsSettings:
    """The encoder's settings.

    Attributes:
      segments: `T'`.
      statistics: names in `STATISTICS`; each gives three channels.
      path: replace the zeros of the hip centre by the root trajectory.
    """

    segments: int = 1
    statistics: tuple[str, ...] = tuple(STATISTICS)
    path: bool = True

    def __post_init__(self):
        check_at_least(1, segments=self.segments)
        if not self.statistics:
            raise ValueError(f"statistics: expected one or more of {', '.join(STATISTICS)}")
        for name in self.statistics:
            check_choice("statistics", name, STATISTICS)


class Kinematics(nn.Module):
    """The encoder; see the top of this module."""

    settings: KinematicsSettings
    skeleton: Skeleton

    def tokens(
        self, clips: Float[Array, "B M T V c"], capacity: int | None = None
    ) -> Float[Array, "B segments V n"]:
        """Tokens: a vector for each joint and segment, mean over present persons.

        Args:
          clips: joint coordinates in metres, `c = 3`.
          capacity: unused, all persons are computed.

        Raises:
          ValueError: `c` is not 3: there are other input streams.
        """
        if clips.shape[-1] != 3:
            raise ValueError(
                "encoder kinematics reads joint coordinates: expected data.streams=('joint',), "
                f"got {clips.shape[-1] // 3} streams"
            )
        in_frame = jnp.any(clips != 0, axis=(3, 4))
        joints = body_coordinates(clips, self.skeleton, self.settings.path)
        segments = segment_weights(clip_lengths(clips), self.settings.segments, clips.shape[2])
        found = []
        for number in range(self.settings.segments):
            weight = segments[:, None, number] * in_frame
            parts = [STATISTICS[name](joints, weight) for name in self.settings.statistics]
            found.append(jnp.concatenate(parts, axis=-1))
        return jnp.einsum("bmsvn,bm->bsvn", jnp.stack(found, axis=2), person_shares(clips))


def body_coordinates(clips: Joints, skeleton: Skeleton, path: bool = True) -> Joints:
    """Hip-centred coordinates in spine lengths; zero in frames where a person is absent.

    Args:
      clips: metres.
      path: replace the zeros of the hip centre by the root trajectory.
    """
    in_frame = jnp.any(clips != 0, axis=(3, 4))
    there = in_frame[..., None, None]
    hip = clips[:, :, :, skeleton.hip_center : skeleton.hip_center + 1]
    joints = jnp.where(there, clips - hip, 0.0)
    if path:
        first = jnp.argmax(in_frame, axis=2)[:, :, None, None, None]
        travelled = jnp.where(there, hip - jnp.take_along_axis(hip, first, axis=2), 0.0)
        joints = joints.at[:, :, :, skeleton.hip_center].set(travelled[:, :, :, 0])
    spine = jnp.linalg.norm(clips[:, :, :, skeleton.spine_top] - hip[:, :, :, 0], axis=-1)
    frames = jnp.maximum(in_frame.sum(axis=2), 1)
    length = jnp.maximum((spine * in_frame).sum(axis=2) / frames, _MIN_SPINE)
    return joints / length[:, :, None, None, None]


ENTRY = EncoderEntry(
    Kinematics,
    KinematicsSettings,
    trained=False,
    description="Statistics of joint positions and velocities; no parameters",
)
