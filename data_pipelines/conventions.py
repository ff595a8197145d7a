"""Coordinate conventions of clips: estimates up axis, handedness and unit, and converts them.

The project's coordinates are metres, x to the person's right, y forward, z up from the floor, all
relative to the first frame in which left and right can be told apart. Conventions that are not
declared are estimated over all clips of a file and reported in short sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_pipelines.body_height import SHORTEST, TALLEST, body_height
from data_pipelines.errors import check_choice
from data_pipelines.formats.clip_archive import UP_AXES
from data_pipelines.skeletons import KINECT_V1

ASSUMED_HEIGHT = 1.7  # metres, if the unit is unknown
_UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
_FLAT = 1e-5  # depth over the size of the motion; rounding of float32 gives a few 1e-7
_MIN_UP_COSINE = 0.6  # mean cosine between the bodies' axis and the up axis
# A clip is mirrored if knees and feet are this far behind the body, in leg lengths. The largest
# value of 10360 clips that are not mirrored is 0.122 (Kinect v1); means over many clips vary less.
_MIN_BACKWARD, _MIN_BACKWARD_OF_MANY = 0.13, 0.02
_MAX_FRAMES = 4096  # frames used for an estimate
_MIN_AXIS = 0.05  # metres; shorter axes are dominated by sensor noise
_FLOOR = 0.01  # metres below the lowest joint: a joint at (0, 0, 0) would count as untracked

Body = Float[np.ndarray, "T 20 3"]


@dataclass(frozen=True)
class Declared:
    """Conventions declared by the user; the others are estimated.

    Attributes:
      up: one of `UP_AXES`; empty: estimated.
      mirrored: whether coordinates are left-handed; None: estimated.
      metres: length of one unit in metres; None: estimated.
      fps: frames per second; None: from the file.

    Raises:
      ValueError: a value cannot be used.
    """

    up: str = ""
    mirrored: bool | None = None
    metres: float | None = None
    fps: float | None = None

    def __post_init__(self):
        """Checks the values."""
        check_choice("up", self.up, ("", *UP_AXES))
        for key in ("metres", "fps"):
            value = getattr(self, key)
            if value is not None and not 0 < value < 1e6:
                raise ValueError(f"{key}: expected more than 0, got {value}")


@dataclass(frozen=True)
class Conventions:
    """Coordinate conventions of the clips of a file.

    Attributes:
      up: one of `UP_AXES`.
      mirrored: whether coordinates are left-handed.
      metres: length of one unit in metres.
      statements: assumptions and changes, in short sentences.
      flat: whether the clips are 2D, without depth.
    """

    up: str
    mirrored: bool
    metres: float
    statements: tuple[str, ...]
    flat: bool = False


def find_conventions(
    clips: Sequence[Float[np.ndarray, "M T 20 3"]], declared: Declared, unit_known: bool = True
) -> Conventions:
    """Estimates the conventions of clips that share them.

    Args:
      clips: joints of `KINECT_V1`, zeros where a person is absent.
      unit_known: whether the format uses metres, centimetres or millimetres. If not (BVH, images),
        bodies of any other size are scaled to `ASSUMED_HEIGHT`.

    Raises:
      ValueError: the bodies have no plausible size.
    """
    bodies = _bodies(clips)
    extent = np.ptp(bodies, axis=(0, 1))
    flat = extent[2] <= _FLAT * extent.max()
    statements: list[str] = []
    up = declared.up or _find_up(bodies, flat, statements)
    metres = declared.metres or _find_unit(bodies, flat, unit_known, statements)
    turned = bodies @ _to_z_up(up).T
    if flat:
        statements.append(
            "2D input: depth is 0 in all frames; only left-right position and height are used"
        )
        return Conventions(up, False, metres, tuple(statements), flat)
    mirrored = declared.mirrored
    if mirrored is None:
        mirrored = _find_mirrored(turned, len(clips), statements)
    return Conventions(up, mirrored, metres, tuple(statements))


def to_project(
    joints: Float[np.ndarray, "M T 20 3"], conventions: Conventions
) -> Float[np.ndarray, "M T 20 3"]:
    """Converts a clip to metres, x to the first person's right, y forward, z up, float32.

    The whole clip gets one rotation about the vertical axis and one shift, from the first frame in
    which left and right can be told apart: there, the hips are above the origin. The lowest joint
    of the clip is just above the floor. Absent persons stay 0.
    """
    present = np.any(joints != 0, axis=(2, 3), keepdims=True)
    moved = joints @ _to_z_up(conventions.up).T * conventions.metres
    if conventions.mirrored:
        moved[..., 0] *= -1
    body = moved[0]
    right = _left_to_right(body)
    right[:, 2] = 0
    usable = (np.linalg.norm(right, axis=-1) > _MIN_AXIS) & present[0, :, 0, 0]
    frame = int(np.argmax(usable))
    if usable[frame]:
        cosine, sine = right[frame, :2] / np.linalg.norm(right[frame])
        moved = moved @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    shift = moved[0, frame, KINECT_V1.hip_center].copy()
    shift[2] = np.min(moved[..., 2], where=present[..., 0], initial=np.inf) - _FLOOR
    moved -= shift
    if conventions.flat:
        moved[..., 1] = 0
    return np.where(present, moved, 0).astype(np.float32)


def forwardness(bodies: Body) -> float:
    """Mean distance of knees and feet in front of the body, in leg lengths; negative: mirrored.

    The direction to the front follows from left and right of hips and shoulders, if coordinates are
    right-handed.
    """
    joint = dict(zip(KINECT_V1.joints, np.moveaxis(bodies, 1, 0), strict=True))
    front = np.cross(joint["shoulder_center"] - joint["hip_center"], _left_to_right(bodies))
    front /= np.maximum(np.linalg.norm(front, axis=-1, keepdims=True), 1e-9)
    total = np.zeros(len(bodies))
    for side in ("left", "right"):
        hip, knee, ankle, foot = (
            joint[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "foot")
        )
        leg = np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)
        bend = knee - (hip + ankle) / 2
        shin = (ankle - knee) / np.maximum(
            np.linalg.norm(ankle - knee, axis=-1, keepdims=True), 1e-9
        )
        toes = foot - ankle
        toes = toes - shin * np.sum(toes * shin, axis=-1, keepdims=True)
        total += np.sum((bend + toes) * front, axis=-1) / np.maximum(leg, 1e-9) / 2
    return float(total.mean())


def _bodies(clips: Sequence[np.ndarray]) -> Body:
    """Bodies of present persons, sampled evenly over the clips."""
    bodies = []
    each = max(1, _MAX_FRAMES // len(clips))
    for clip in clips:
        persons = clip.reshape(-1, *clip.shape[2:])
        persons = persons[np.any(persons != 0, axis=(1, 2))]
        bodies.append(
            persons[np.linspace(0, len(persons) - 1, min(each, len(persons))).astype(int)]
        )
    return np.concatenate(bodies).astype(np.float64)


def _left_to_right(bodies: Float[np.ndarray, "... 20 3"]) -> Float[np.ndarray, "... 3"]:
    """Vectors from the left to the right side, mean of shoulders and hips."""
    index = KINECT_V1.joints.index
    right, left = (
        bodies[..., index(f"{side}_shoulder"), :] + bodies[..., index(f"{side}_hip"), :]
        for side in ("right", "left")
    )
    return (right - left) / 2


def _find_up(bodies: Body, flat: bool, statements: list[str]) -> str:
    index = KINECT_V1.joints.index
    feet = (bodies[:, index("left_ankle")] + bodies[:, index("right_ankle")]) / 2
    axis = bodies[:, index("head")] - feet
    axis /= np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    mean = axis.mean(axis=0)
    best = int(np.argmax(np.abs(mean[: 2 if flat else 3])))
    up = ("-" if mean[best] < 0 else "") + "xyz"[best]
    if abs(mean[best]) < _MIN_UP_COSINE:
        up = "-y" if flat else "y"
        statements.append(f"the up axis is not clear from the bodies: {up} is assumed")
    elif up != "y":
        statements.append(f"up is {up}, as heads and feet show")
    return up


def _find_unit(bodies: Body, flat: bool, unit_known: bool, statements: list[str]) -> float:
    height = body_height(bodies, KINECT_V1, 0.9 if flat else 0.5) or 0.0
    if not 0 < height < np.inf:
        raise ValueError(f"expected a body with bones, got a height of {height}")
    if not flat:
        for unit, metres in _UNITS.items():
            if SHORTEST <= height * metres <= TALLEST:
                if unit != "metres":
                    statements.append(
                        f"lengths are in {unit} (a body is {height:.4g} tall): converted"
                    )
                return metres
    if unit_known and not flat:
        raise ValueError(
            f"expected a body of {SHORTEST} to {TALLEST} m (in metres, centimetres or "
            f"millimetres), got a height of {height:.4g}; declare the metres of one unit"
        )
    statements.append(
        f"the unit is unknown (a body is {height:.4g} tall): scaled to a height of "
        f"{ASSUMED_HEIGHT} m"
    )
    return ASSUMED_HEIGHT / height


def _find_mirrored(bodies: Body, clips: int, statements: list[str]) -> bool:
    """Whether coordinates of bodies with z up are left-handed."""
    threshold = max(_MIN_BACKWARD_OF_MANY, _MIN_BACKWARD / clips**0.5)
    front = forwardness(bodies)
    if front < -threshold:
        statements.append("the clip is mirrored (knees and feet point backwards): it is reflected")
    elif front < threshold:
        statements.append(
            "knees and feet do not show whether the clip is mirrored: right-handed is assumed"
        )
    return front < -threshold


def _to_z_up(up: str) -> Float[np.ndarray, "3 3"]:
    """The rotation by multiples of 90 degrees that turns an axis to +z."""
    sign = -1.0 if up.startswith("-") else 1.0
    axis = "xyz".index(up[-1])
    rows = np.zeros((3, 3))
    rows[2, axis] = sign
    one, two = (axis + 1) % 3, (axis + 2) % 3
    rows[0, one], rows[1, two] = 1.0, sign
    return rows
