"""Coordinates of clips: up axis, handedness and unit are found, and changed to the project's.

The project's are metres, x to the person's right, y forward, z up from the floor, by the first
frame in which the body's sides can be seen. What is not declared is estimated over all clips of a
file, which were recorded alike, and said in short sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_pipelines.body_height import SHORTEST, TALLEST, body_height
from data_pipelines.errors import check_choice
from data_pipelines.formats.clip_archive import UP_AXES
from data_pipelines.skeletons import KINECT_V1

ASSUMED_HEIGHT = 1.7  # metres, where nothing says how long a unit is
_UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
_FLAT = 1e-5  # depth over the size of the motion; float32 weights leave a few 1e-7
_CLEARLY_UP = 0.6  # mean cosine of the bodies' axis and the up axis
# Leg lengths that knees and feet are behind the body in a mirrored clip, at least. Of 10360 clips
# that are not mirrored none has more than 0.122 (Kinect v1); the mean of a file with many is surer.
_BACKWARDS, _BACKWARDS_OF_MANY = 0.13, 0.02
_MOST_FRAMES = 4096  # that an estimate looks at
_MIN_AXIS = 0.05  # metres; a shorter axis says more about the sensor than about the body
_FLOOR = 0.01  # metres below the lowest joint: a joint at 0, 0, 0 would be an untracked one

Body = Float[np.ndarray, "T 20 3"]


@dataclass(frozen=True)
class Declared:
    """What the user says about clips; the rest is estimated.

    Attributes:
      up: one of `UP_AXES`; empty: estimated.
      mirrored: whether coordinates are left-handed; None: estimated.
      metres: length of one unit; None: estimated.
      fps: frames per second; None: by the file.

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
    """The coordinates of the clips of a file.

    Attributes:
      up: one of `UP_AXES`.
      mirrored: whether they are left-handed.
      metres: of one unit.
      statements: what was assumed or changed, in short sentences.
      flat: whether they have no depth.
    """

    up: str
    mirrored: bool
    metres: float
    statements: tuple[str, ...]
    flat: bool = False


def find_conventions(
    clips: Sequence[Float[np.ndarray, "M T 20 3"]], declared: Declared, unit_known: bool = True
) -> Conventions:
    """The conventions of clips that were recorded alike.

    Args:
      clips: joints of `KINECT_V1`, zeros where a person is absent.
      unit_known: whether the format promises metres, centimetres or millimetres. Where it does not
        (BVH, images), bodies of any other size are scaled to `ASSUMED_HEIGHT`.

    Raises:
      ValueError: the bodies have no plausible size.
    """
    bodies = _bodies(clips)
    extent = np.ptp(bodies, axis=(0, 1))
    flat = extent[2] <= _FLAT * extent.max()
    said: list[str] = []
    up = declared.up or _find_up(bodies, flat, said)
    metres = declared.metres or _find_unit(bodies, flat, unit_known, said)
    turned = bodies @ _to_z_up(up).T
    if flat:
        said.append(
            "2D input: depth is 0 in all frames, so that left-right and height alone are seen"
        )
        return Conventions(up, False, metres, tuple(said), flat)
    mirrored = declared.mirrored
    if mirrored is None:
        mirrored = _find_mirrored(turned, len(clips), said)
    return Conventions(up, mirrored, metres, tuple(said))


def to_project(
    joints: Float[np.ndarray, "M T 20 3"], conventions: Conventions
) -> Float[np.ndarray, "M T 20 3"]:
    """A clip in metres, x to the first person's right, y forward, z up, float32.

    One rotation about the vertical axis and one shift serve the whole clip. They are those of the
    first frame in which the sides can be seen: its hips are above the origin. The lowest joint of
    the clip is just above the floor. Absent persons stay 0.
    """
    present = np.any(joints != 0, axis=(2, 3), keepdims=True)
    moved = joints @ _to_z_up(conventions.up).T * conventions.metres
    if conventions.mirrored:
        moved[..., 0] *= -1
    body = moved[0]
    right = _rightwards(body)
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
    """How far knees and feet are in front of the body, in leg lengths; negative: mirrored.

    Front is where it is in right-handed coordinates, by the hips' and shoulders' sides.
    """
    joint = dict(zip(KINECT_V1.joints, np.moveaxis(bodies, 1, 0), strict=True))
    front = np.cross(joint["shoulder_center"] - joint["hip_center"], _rightwards(bodies))
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
    """Bodies of present persons, spread evenly over the clips."""
    bodies = []
    each = max(1, _MOST_FRAMES // len(clips))
    for clip in clips:
        persons = clip.reshape(-1, *clip.shape[2:])
        persons = persons[np.any(persons != 0, axis=(1, 2))]
        bodies.append(
            persons[np.linspace(0, len(persons) - 1, min(each, len(persons))).astype(int)]
        )
    return np.concatenate(bodies).astype(np.float64)


def _rightwards(bodies: Float[np.ndarray, "... 20 3"]) -> Float[np.ndarray, "... 3"]:
    """From the left to the right shoulder and hip."""
    index = KINECT_V1.joints.index
    right, left = (
        bodies[..., index(f"{side}_shoulder"), :] + bodies[..., index(f"{side}_hip"), :]
        for side in ("right", "left")
    )
    return (right - left) / 2


def _find_up(bodies: Body, flat: bool, said: list[str]) -> str:
    index = KINECT_V1.joints.index
    feet = (bodies[:, index("left_ankle")] + bodies[:, index("right_ankle")]) / 2
    axis = bodies[:, index("head")] - feet
    axis /= np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    mean = axis.mean(axis=0)
    best = int(np.argmax(np.abs(mean[: 2 if flat else 3])))
    up = ("-" if mean[best] < 0 else "") + "xyz"[best]
    if abs(mean[best]) < _CLEARLY_UP:
        up = "-y" if flat else "y"
        said.append(f"the up axis is not clear from the bodies: {up} is assumed")
    elif up != "y":
        said.append(f"up is {up}, as heads and feet show")
    return up


def _find_unit(bodies: Body, flat: bool, unit_known: bool, said: list[str]) -> float:
    height = body_height(bodies, KINECT_V1, 0.9 if flat else 0.5) or 0.0
    if not 0 < height < np.inf:
        raise ValueError(f"expected a body with bones, got a height of {height}")
    if not flat:
        for unit, metres in _UNITS.items():
            if SHORTEST <= height * metres <= TALLEST:
                if unit != "metres":
                    said.append(f"lengths are in {unit} (a body is {height:.4g} tall): converted")
                return metres
    if unit_known and not flat:
        raise ValueError(
            f"expected a body of {SHORTEST} to {TALLEST} m (or that in centimetres or "
            f"millimetres), got a height of {height:.4g}; declare the metres of one unit"
        )
    said.append(
        f"the unit is unknown (a body is {height:.4g} tall): scaled to a height of "
        f"{ASSUMED_HEIGHT} m"
    )
    return ASSUMED_HEIGHT / height


def _find_mirrored(bodies: Body, clips: int, said: list[str]) -> bool:
    """Whether coordinates are left-handed, of bodies with z up."""
    least = max(_BACKWARDS_OF_MANY, _BACKWARDS / clips**0.5)
    front = forwardness(bodies)
    if front < -least:
        said.append("the clip is mirrored (knees and feet point backwards): it is reflected")
    elif front < least:
        said.append(
            "knees and feet do not show whether the clip is mirrored: right-handed is assumed"
        )
    return front < -least


def _to_z_up(up: str) -> Float[np.ndarray, "3 3"]:
    """The rotation that turns an axis to +z; axes stay axes."""
    sign = -1.0 if up.startswith("-") else 1.0
    axis = "xyz".index(up[-1])
    rows = np.zeros((3, 3))
    rows[2, axis] = sign
    one, two = (axis + 1) % 3, (axis + 2) % 3
    rows[0, one], rows[1, two] = 1.0, sign
    return rows
