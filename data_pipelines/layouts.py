"""Joint layouts of other sources, and their mapping to the common skeleton, `KINECT_V1`.

Each common joint is a weighted combination of source joints. The weights add up to 1, so that the
mapping commutes with rigid motions and changes of the unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_pipelines.errors import check_choice
from data_pipelines.joint_names import SIDES, Weights, body_points
from data_pipelines.skeletons import KINECT_V1, KINECT_V2, OPENPOSE_18

COMMON = KINECT_V1
_COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_OPENPOSE_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
    "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe",
    "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_MEDIAPIPE = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_pinky_knuckle", "right_pinky_knuckle", "left_index_knuckle", "right_index_knuckle",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle", "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
_HUMAN36M = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "spine", "thorax", "nose", "head_top", "left_shoulder", "left_elbow", "left_wrist",
    "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
_SMPL = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar",
    "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
    "right_wrist", "left_hand", "right_hand",
)  # fmt: skip

# Joint names of each layout, in array order.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "kinect_v1": KINECT_V1.joints,
    "kinect_v2": KINECT_V2.joints,
    "ntu": KINECT_V2.joints,
    "openpose_25": _OPENPOSE_25,
    "openpose_18": OPENPOSE_18.joints,
    "coco_17": _COCO,
    "mediapipe_33": _MEDIAPIPE,
    "human36m_17": _HUMAN36M,
    "smpl_24": _SMPL,
}

# Rules to derive a point from others, in order of preference. Weights are those of an adult body.
_RULES: tuple[tuple[str, Weights], ...] = (
    ("hip_center", {"left_hip": 0.5, "right_hip": 0.5}),
    ("shoulder_center", {"left_shoulder": 0.5, "right_shoulder": 0.5}),
    ("spine", {"hip_center": 0.65, "shoulder_center": 0.35}),
    ("head", {"head_top": 0.5, "head_base": 0.5}),
    ("head", {"left_ear": 0.5, "right_ear": 0.5}),
    ("head", {"head_top": 0.5, "nose": 0.5}),
    ("head", {"left_eye": 0.5, "right_eye": 0.5}),
    ("head", {"nose": 1.0}),
    ("head", {"head_top": 0.6, "shoulder_center": 0.4}),
    ("head", {"shoulder_center": 1.42, "hip_center": -0.42}),
)
_SIDE_RULES: tuple[tuple[str, Weights], ...] = (
    ("wrist", {"elbow": 0.24, "hand": 0.76}),
    ("hand", {"wrist": 0.5, "fingers": 0.5}),
    ("hand", {"wrist": 1.32, "elbow": -0.32}),
    ("ankle", {"knee": 0.1, "foot": 0.9}),
    ("foot", {"ankle": 0.5, "toes": 0.5}),
    ("foot", {"ankle": 1.15, "knee": -0.15}),
)


@dataclass(frozen=True)
class Layout:
    """A mapping of source joints to the common skeleton.

    Attributes:
      name: name of the source's layout, for statements.
      joints: `V` names of source joints, in array order.
      weights: `[20, V]`; rows add up to 1.
      derived: common joints that combine several source joints.
    """

    name: str
    joints: tuple[str, ...]
    weights: Float[np.ndarray, "20 V"]
    derived: tuple[str, ...]

    def to_common(self, joints: Float[np.ndarray, "... V 3"]) -> Float[np.ndarray, "... 20 3"]:
        """Maps to the joints of `COMMON`, in the dtype and the frame of the source."""
        mapped = np.einsum("uv,...vk->...uk", self.weights, joints)
        return mapped.astype(joints.dtype)

    @property
    def root(self) -> int | None:
        """Index of the source joint at the hip center, if there is one."""
        (sources,) = np.nonzero(self.weights[COMMON.hip_center])
        return int(sources[0]) if len(sources) == 1 else None

    @property
    def statement(self) -> str:
        """A sentence with the derived joints; empty if there are none."""
        if not self.derived:
            return ""
        return f"joints of {self.name} derived from others: {', '.join(self.derived)}"


def layout_of(
    skeleton: str | Mapping | None,
    names: Sequence[str] | None,
    count: int,
    absent: Sequence[int] = (),
    asf_ends: bool = True,
) -> Layout:
    """The layout of a source.

    Args:
      skeleton: one of `LAYOUTS`; or a mapping from common joints to a source joint, a list of
        source joints (their mean) or weights of source joints, where missing joints are derived;
        None: derived from the names.
      names: names of the source's `V` joints; None if it has none.
      count: `V`.
      absent: indices of joints that are never tracked, which are not used.
      asf_ends: see `body_points`.

    Raises:
      ValueError: the layout is unknown or has another number of joints, or a common joint cannot be
        derived; the message has the missing and the given joints.
    """
    if isinstance(skeleton, str):
        check_choice("skeleton", skeleton, LAYOUTS)
        names = LAYOUTS[skeleton]
        if len(names) != count:
            raise ValueError(f"skeleton {skeleton}: expected {len(names)} joints, got {count}")
    elif names is None and skeleton is None:
        fit = " or ".join(name for name, joints in LAYOUTS.items() if len(joints) == count)
        raise ValueError(
            f"expected the skeleton of {count} joints without names"
            + (f", such as --skeleton={fit}" if fit else "; name the joints, or map them")
        )
    names = tuple(names) if names is not None else tuple(map(str, range(count)))
    usable = [name for index, name in enumerate(names) if index not in set(absent)]
    if isinstance(skeleton, Mapping):
        points = _declared_points(skeleton, usable)
        title = "your skeleton"
    else:
        points = body_points(usable, asf_ends)
        title = skeleton or "the file"
    return _completed(points, title, names, usable)


def _declared_points(skeleton: Mapping, names: Sequence[str]) -> dict[str, Weights]:
    """Points from an explicit mapping."""
    points = {}
    for joint, source in skeleton.items():
        check_choice("common joint", joint, COMMON.joints)
        if isinstance(source, Mapping):
            weights = {str(name): float(weight) for name, weight in source.items()}
        else:
            parts = list(source) if isinstance(source, list | tuple) else [source]
            weights = {str(name): 1 / len(parts) for name in parts}
        for name in weights:
            check_choice(f"source joint of {joint}", name, names)
        if not abs(sum(weights.values()) - 1) < 1e-3:
            raise ValueError(f"{joint}: expected weights that add up to 1, got {weights}")
        points[joint] = weights
    return points


def _completed(
    points: dict[str, Weights], title: str, names: tuple[str, ...], usable: Sequence[str]
) -> Layout:
    """The layout of some points, after the others are derived."""
    for point, rule in _all_rules():
        if point not in points and rule.keys() <= points.keys():
            points[point] = _combined(points, rule)
    missing = [joint for joint in COMMON.joints if joint not in points]
    if missing:
        raise ValueError(
            f"no joint of {title} gives {', '.join(missing)}; the joints are {', '.join(usable)}. "
            "Choose a skeleton, or map common joints to these joints"
        )
    weights = np.zeros((COMMON.num_joints, len(names)), np.float32)
    for row, joint in enumerate(COMMON.joints):
        for name, weight in points[joint].items():
            weights[row, names.index(name)] = weight
    derived = tuple(joint for joint in COMMON.joints if len(points[joint]) > 1)
    return Layout(title, names, weights, derived)


def _all_rules() -> list[tuple[str, Weights]]:
    sided = [
        (f"{side}_{point}", {f"{side}_{other}": weight for other, weight in rule.items()})
        for side in SIDES
        for point, rule in _SIDE_RULES
    ]
    return [*_RULES, *sided]


def _combined(points: dict[str, Weights], rule: Weights) -> Weights:
    weights: Weights = {}
    for point, share in rule.items():
        for name, weight in points[point].items():
            weights[name] = weights.get(name, 0.0) + share * weight
    return weights
