"""Posture and motion features of upright clips: an encoder without parameters.

Clips come from `temporal_sampling="upright"`: z is up, so that leaning, lying and height are
preserved. Features are the statistics of `encoders.kinematics`, and for a body with the bone
lengths of an average adult: joint angles; distances between hands, feet and trunk; correlations of
hands and feet; the height above the lower foot; the trajectory and the turns of the body; and the
fraction of each body part in all motion. They hardly depend on a person's size and proportions.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.skeletons import KINECT_V1, Skeleton
from dynapurls_jax.encoders.base import EncoderEntry
from dynapurls_jax.encoders.kinematics import Kinematics, KinematicsSettings
from dynapurls_jax.encoders.masking import person_shares
from dynapurls_jax.registry import NoSettings

# Lengths in metres of the bone from each joint of Kinect v1 to its parent, of an average adult.
_BONES = {
    "spine": 0.2,
    "shoulder_center": 0.26,
    "head": 0.19,
    "shoulder": 0.19,
    "elbow": 0.26,
    "wrist": 0.24,
    "hand": 0.08,
    "hip": 0.1,
    "knee": 0.41,
    "ankle": 0.4,
    "foot": 0.1,
}
_LEG = _BONES["knee"] + _BONES["ankle"]
_SHORTEST = 0.02  # metres: the direction of a shorter bone is mostly noise
_JOINTS = KINECT_V1.joints
# Joint angles: at the second joint, between the first and the third.
_ANGLES = (
    ("left_shoulder", "left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow", "right_wrist"),
    ("left_hip", "left_knee", "left_ankle"),
    ("right_hip", "right_knee", "right_ankle"),
    ("shoulder_center", "left_shoulder", "left_elbow"),
    ("shoulder_center", "right_shoulder", "right_elbow"),
    ("shoulder_center", "hip_center", "left_knee"),
    ("shoulder_center", "hip_center", "right_knee"),
    ("hip_center", "shoulder_center", "head"),
)
_DISTANCES = (
    ("left_hand", "right_hand"),
    ("left_foot", "right_foot"),
    ("left_hand", "head"),
    ("right_hand", "head"),
    ("left_hand", "hip_center"),
    ("right_hand", "hip_center"),
    ("left_hand", "left_knee"),
    ("right_hand", "right_knee"),
    ("left_hand", "right_knee"),
    ("right_hand", "left_knee"),
    ("left_hand", "right_shoulder"),
    ("right_hand", "left_shoulder"),
)
_FEET = ("left_ankle", "left_foot", "right_ankle", "right_foot")
_PARTS = ("left_hand", "right_hand", "left_foot", "right_foot", "head")
_PLANES = ((0, 1), (0, 2), (1, 2))

Body = Float[Array, "B M T V 3"]
Series = Float[Array, "B M T m"]
Features = Float[Array, "B M n"]


class Posture(nn.Module):
    """The encoder; see the top of this module."""

    settings: NoSettings
    skeleton: Skeleton

    def tokens(
        self, clips: Float[Array, "B M T V c"], capacity: int | None = None
    ) -> Float[Array, "B 1 1 n"]:
        """One token: the mean over present persons.

        Args:
          clips: joint coordinates in metres, z up, `c = 3`.
          capacity: unused, all persons are computed.

        Raises:
          ValueError: there are other input streams, or the skeleton lacks joints of Kinect v1.
        """
        if missing := sorted(set(_JOINTS) - set(self.skeleton.joints)):
            raise ValueError(
                f"encoder posture reads the joints of kinect_v1: {self.skeleton.name} lacks "
                f"{', '.join(missing)}"
            )
        statistics = Kinematics(KinematicsSettings(), self.skeleton, parent=None).tokens(clips)
        order = jnp.array([self.skeleton.joints.index(name) for name in _JOINTS])
        found = _features(_average_bones(_without_gaps(clips[:, :, :, order])))
        mean = jnp.einsum("bmn,bm->bn", found, person_shares(clips))
        flat = statistics[:, 0, order].reshape(len(clips), -1)
        return jnp.concatenate([flat, mean], axis=-1)[:, None, None]


def _without_gaps(clips: Body) -> Body:
    """Fills frames without a person with the last frame of that person, or else the first."""
    there = jnp.any(clips != 0, axis=(3, 4))
    frames = jnp.arange(clips.shape[2])
    last = jnp.max(jnp.where(there[:, :, None], frames, -1) * (frames <= frames[:, None]), axis=-1)
    first = jnp.argmax(there, axis=2)[..., None]
    nearest = jnp.where(jnp.cumsum(there, axis=2) > 0, last, first)
    return jnp.take_along_axis(clips, nearest[..., None, None], axis=2)


def _average_bones(clips: Body) -> Body:
    """Bones of an average adult in the same directions; the hip trajectory is scaled with them."""

    def length(side: str) -> Float[Array, "B M"]:
        hip, knee, ankle = (_of(clips, f"{side}_{name}") for name in ("hip", "knee", "ankle"))
        return jnp.mean(_norm(knee - hip) + _norm(ankle - knee), axis=2)

    size = (length("left") + length("right")) / (2 * _LEG)
    joints = [clips[:, :, :, 0] / jnp.maximum(size, 1e-3)[:, :, None, None]]
    for joint, parent in list(enumerate(KINECT_V1.parents))[1:]:
        bone = clips[:, :, :, joint] - clips[:, :, :, parent]
        direction = bone / jnp.maximum(_norm(bone), _SHORTEST)[..., None]
        name = _JOINTS[joint].removeprefix("left_").removeprefix("right_")
        joints.append(joints[parent] + _BONES[name] * direction)
    return jnp.stack(joints, axis=3)


def _features(body: Body) -> Features:
    """All features except the statistics of coordinates."""
    facing, path, heading = _facing(body)
    measures = _measures(body)
    steps = jnp.abs(jnp.diff(measures, axis=2)).mean(axis=2)
    parts = [
        measures.mean(axis=2),
        measures.std(axis=2),
        steps,
        measures.max(axis=2),
        measures.min(axis=2),
        _correlations(facing),
        _height(body),
        _path(body, path, heading),
        _shares(body, facing),
    ]
    return jnp.concatenate(parts, axis=-1)


def _facing(body: Body) -> tuple[Body, Series, Float[Array, "B M T"]]:
    """Hip-centred, heading-aligned body, the hip's displacements so aligned, and the heading."""
    shoulders, hips = (
        _of(body, f"right_{name}") - _of(body, f"left_{name}") for name in ("shoulder", "hip")
    )
    across = shoulders + hips
    length = jnp.maximum(_norm(across[..., :2]), 1e-4)
    cosine, sine = across[..., 0] / length, across[..., 1] / length
    hip = body[:, :, :, 0]

    def turned(x: Array, cosine: Array, sine: Array) -> Array:
        right, front = x[..., 0], x[..., 1]
        both = [cosine * right + sine * front, cosine * front - sine * right, x[..., 2]]
        return jnp.stack(both, axis=-1)

    facing = turned(body - hip[:, :, :, None], cosine[..., None], sine[..., None])
    steps = turned(jnp.diff(hip, axis=2, prepend=hip[:, :, :1]), cosine, sine)
    return facing, steps, jnp.unwrap(jnp.arctan2(sine, cosine), axis=2)


def _measures(body: Body) -> Series:
    """Joint angles in radians and distances in metres."""

    def angle(names: tuple[str, str, str]) -> Float[Array, "B M T"]:
        first, middle, last = (_of(body, name) for name in names)
        u, w = first - middle, last - middle
        size = jnp.maximum(_norm(u) * _norm(w), 1e-6)
        return jnp.arccos(jnp.clip(jnp.sum(u * w, axis=-1) / size, -1, 1))

    found = [angle(names) for names in _ANGLES]
    found += [_norm(_of(body, a) - _of(body, b)) for a, b in _DISTANCES]
    return jnp.stack(found, axis=-1)


def _correlations(facing: Body) -> Features:
    """Correlations of hands and feet, of a hand's coordinates, and areas of hand trajectories."""
    left, right, left_foot, right_foot = (_of(facing, name) for name in _PARTS[:4])

    def correlation(a: Array, b: Array) -> Array:
        a, b = a - a.mean(axis=2, keepdims=True), b - b.mean(axis=2, keepdims=True)
        size = jnp.sqrt((a * a).mean(axis=2) * (b * b).mean(axis=2))
        return (a * b).mean(axis=2) / (size + 0.01)

    def area(a: Array, b: Array) -> Array:
        a, b = a - a.mean(axis=2, keepdims=True), b - b.mean(axis=2, keepdims=True)
        return (a[:, :, :-1] * b[:, :, 1:] - a[:, :, 1:] * b[:, :, :-1]).sum(axis=2)

    found = [correlation(left[..., k], right[..., k]) for k in range(3)]
    found += [correlation(left_foot[..., k], right_foot[..., k]) for k in range(3)]
    found += [correlation(hand[..., 1], left_foot[..., 1]) for hand in (left, right)]
    for pair in (correlation, area):
        found += [pair(hand[..., a], hand[..., b]) for hand in (left, right) for a, b in _PLANES]
    return jnp.stack(found, axis=-1)


def _height(body: Body) -> Features:
    """Statistics of the height of the hip above the lower foot, and of that foot, in metres."""
    low = jnp.stack([_of(body, name)[..., 2] for name in _FEET], axis=-1).min(axis=-1)
    above = body[:, :, :, 0, 2] - low
    found = [above.mean(axis=2), above.min(axis=2), above.max(axis=2)]
    return jnp.stack([*found, low.max(axis=2) - low.min(axis=2), low.std(axis=2)], axis=-1)


def _path(body: Body, steps: Series, heading: Float[Array, "B M T"]) -> Features:
    """Displacement of the body relative to its heading, its turns, and the hip's height."""
    count, height = steps.shape[2] - 1, body[:, :, :, 0, 2]
    moved = [steps.mean(axis=2), jnp.abs(steps).mean(axis=2), steps.std(axis=2)]
    turns = [
        heading[:, :, -1] - heading[:, :, 0],
        heading.max(axis=2) - heading.min(axis=2),
        jnp.abs(jnp.diff(heading, axis=2)).sum(axis=2),
        height.max(axis=2) - height.min(axis=2),
        height.mean(axis=2),
        height.std(axis=2),
    ]
    return jnp.concatenate([*(count * part for part in moved), jnp.stack(turns, axis=-1)], axis=-1)


def _shares(body: Body, facing: Body) -> Features:
    """The fractions of hands, feet, head and the hip's height in all motion."""
    speeds = [_norm(jnp.diff(_of(facing, name), axis=2)) for name in _PARTS]
    speeds.append(jnp.abs(jnp.diff(body[:, :, :, 0, 2], axis=2)))
    mean = jnp.stack(speeds, axis=-1).mean(axis=2)
    return mean / (mean.sum(axis=-1, keepdims=True) + 0.01)


def _of(body: Body, name: str) -> Float[Array, "B M T 3"]:
    return body[:, :, :, _JOINTS.index(name)]


def _norm(x: Array) -> Array:
    return jnp.linalg.norm(x, axis=-1)


ENTRY = EncoderEntry(
    Posture,
    NoSettings,
    trained=False,
    description="`kinematics` of upright clips, with angles, distances and height",
)
