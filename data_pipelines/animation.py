"""Animation of motion sketches: a stick figure follows the waypoints by inverse kinematics.

Coordinates are metres: x to the person's right, y forward, z up from the floor.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from data_pipelines.prepared import prepare_clip
from data_pipelines.skeletons import KINECT_V1, Skeleton
from data_pipelines.sketches import HANG, ON_HIPS, Sketch, position_of

VERSION = 1  # of the animation and the constants in `sketches`; part of a run's identity
SKELETON = KINECT_V1
_JOINT = {name: index for index, name in enumerate(SKELETON.joints)}
_HIP_HEIGHT = 0.875  # of a standing person
_UPPER_ARM, _FOREARM, _HAND = 0.28, 0.25, 0.16
_THIGH, _SHIN = 0.41, 0.40
# Positions relative to the hips, in the frame of the trunk.
_TRUNK = {
    "hip_center": (0.0, 0.0, 0.0),
    "spine": (0.0, 0.01, 0.175),
    "shoulder_center": (0.0, 0.01, 0.5),
    "head": (0.0, 0.04, 0.71),
    "left_shoulder": (-0.175, 0.01, 0.45),
    "right_shoulder": (0.175, 0.01, 0.45),
}

Path = Float[np.ndarray, "T 3"]


def animate(sketch: Sketch, frames: int) -> Float[np.ndarray, "T 20 3"]:
    """Joints of `KINECT_V1`, float32, of a person who performs the sketch.

    Waypoints are evenly spaced in time; motion between two of them starts and ends with speed 0.
    If a waypoint is out of reach, the limb is stretched towards it.
    """
    joints = np.zeros((frames, SKELETON.num_joints, 3))
    hips = np.pad(_along(sketch, "hips", frames), ((0, 0), (1, 0)))
    lean, tilt, turn = _along(sketch, "torso", frames).T
    # Rotations in this order: lean to the side, lean forward, turn.
    trunk = Rotation.from_euler("yxz", np.stack([tilt, -lean, turn], axis=1))
    for name, offset in _TRUNK.items():
        joints[:, _JOINT[name]] = hips + trunk.apply(np.array(offset))
    for name, side in (("left", -1.0), ("right", 1.0)):
        shoulder = joints[:, _JOINT[f"{name}_shoulder"]]
        elbow, wrist = _reach(
            shoulder,
            _hand_targets(sketch, name, side, shoulder, hips),
            (_UPPER_ARM, _FOREARM),
            np.array([side * 0.5, -0.6, -0.7]),
        )
        forearm = (wrist - elbow) / np.linalg.norm(wrist - elbow, axis=1, keepdims=True)
        joints[:, _JOINT[f"{name}_elbow"]] = elbow
        joints[:, _JOINT[f"{name}_wrist"]] = wrist
        joints[:, _JOINT[f"{name}_hand"]] = wrist + _HAND / 2 * forearm
        hip = hips + np.array([side * 0.085, 0.0, -0.06])
        foot = _along(sketch, f"{name} foot", frames) - np.array([0.0, 0.0, _HIP_HEIGHT])
        foot[:, 2] += np.maximum(hips[:, 2], 0)  # in a jump, the feet rise with the hips
        knee, ankle = _reach(hip, foot, (_THIGH, _SHIN), np.array([side * 0.1, 1.0, 0.1]))
        joints[:, _JOINT[f"{name}_hip"]] = hip
        joints[:, _JOINT[f"{name}_knee"]] = knee
        joints[:, _JOINT[f"{name}_ankle"]] = ankle
        joints[:, _JOINT[f"{name}_foot"]] = ankle + np.array([0.0, 0.11, -0.04])
    joints[:, :, :2] += _along(sketch, "travel", frames)[:, None]
    joints[:, :, 2] += _HIP_HEIGHT  # a joint at (0, 0, 0) would count as untracked
    return joints.astype(np.float32)


def imagined_clip(
    sketch: Sketch, target: Skeleton, temporal_sampling: str, shape: tuple[int, int]
) -> Float[np.ndarray, "M T V 3"]:
    """The animated sketch as an encoder's input, prepared as recorded clips are.

    Args:
      target: joint layout of the encoder.
      shape: `(M, T)`.

    Raises:
      ValueError: the layout cannot be made of Kinect v1's joints.
    """
    clip = animate(sketch, frames_for(temporal_sampling, shape[1]))[None]
    return prepare_clip(clip, SKELETON, target, temporal_sampling, shape)


def frames_for(temporal_sampling: str, frames: int) -> int:
    """Number of frames to animate, so that sampling to `frames` frames keeps the whole motion."""
    return 2 * frames if temporal_sampling in ("resample", "upright") else frames


def _along(sketch: Sketch, part: str, frames: int) -> Float[np.ndarray, "T k"]:
    """Positions or angles of a part over time."""
    return _eased(np.array([position_of(part)(waypoint) for waypoint in sketch[part]]), frames)


def _eased(keys: Float[np.ndarray, "n k"], frames: int) -> Float[np.ndarray, "T k"]:
    """Smooth interpolation between keys that are evenly spaced in time."""
    if len(keys) == 1:
        return np.repeat(keys, frames, axis=0)
    time = np.linspace(0, len(keys) - 1, frames)
    before = np.minimum(time.astype(int), len(keys) - 2)
    weight = (time - before)[:, None]
    weight = weight * weight * (3 - 2 * weight)
    return keys[before] * (1 - weight) + keys[before + 1] * weight


def _hand_targets(sketch: Sketch, name: str, side: float, shoulder: Path, hips: Path) -> Path:
    """Targets of a hand: `hang` follows the shoulder, `on hips` the hips, others are free."""
    part, frames = f"{name} hand", len(hips)
    hangs, on_hips = (
        _eased(np.array([[float(key == word)] for key in sketch[part]]), frames)
        for word in (HANG, ON_HIPS)
    )
    hanging = shoulder + np.array([side * 0.035, 0.025, -0.51])
    at_hips = hips + np.array([side * 0.2, 0.05, 0.06])
    # Free targets keep their height; they follow half of the hips' motion forward and back.
    free = _along(sketch, part, frames) + hips * np.array([0.0, 0.5, 0.0]) * (1 - hangs - on_hips)
    return free + hangs * hanging + on_hips * at_hips


def _reach(
    start: Path, target: Path, lengths: tuple[float, float], pole: Float[np.ndarray, "3"]
) -> tuple[Path, Path]:
    """Inverse kinematics of two bones from a joint towards a target: middle joint and end.

    Args:
      pole: direction in which the middle joint bends.
    """
    upper, lower = lengths
    offset = target - start
    length = np.linalg.norm(offset, axis=1, keepdims=True)
    reach = np.clip(length, abs(upper - lower) + 1e-3, 0.995 * (upper + lower))
    direction = offset / np.maximum(length, 1e-6)
    cosine = (upper**2 + reach**2 - lower**2) / (2 * upper * reach)
    sine = np.sqrt(np.clip(1 - cosine**2, 0, 1))
    bend = pole - (direction @ pole)[:, None] * direction
    bend /= np.maximum(np.linalg.norm(bend, axis=1, keepdims=True), 1e-6)
    return start + upper * (cosine * direction + sine * bend), start + reach * direction
