"""Joint layouts: names, bones, body parts, and mappings between layouts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PARTS = ("head", "hands", "torso", "legs")


@dataclass(frozen=True)
class Skeleton:
    """A joint layout.

    Attributes:
      name: name in configurations and files.
      joints: `V` names, in array order.
      parents: index of each joint's parent; the root is its own parent.
      parts: joint indices of head, hands, torso and legs, the granularities 1-4.
      hip_center: joint at the origin and at the lower end of the vertical axis in normalisation.
      spine_mid: upper end of the vertical axis in `normalise_published`.
      spine_top: upper end of the vertical axis in `normalise`.
      shoulders: right and left end of the horizontal axis.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    parts: dict[str, tuple[int, ...]] = field(hash=False)
    hip_center: int
    spine_mid: int
    spine_top: int
    shoulders: tuple[int, int]

    @property
    def num_joints(self) -> int:
        """`V`."""
        return len(self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) pairs of all joints but the root."""
        return tuple((c, p) for c, p in enumerate(self.parents) if c != p)


def _parts(joints, head, torso, legs):
    """Joint indices of each part; the hands get all joints of no other part."""
    named = {"head": head, "torso": torso, "legs": legs}
    named["hands"] = [joint for joint in joints if joint not in (*head, *torso, *legs)]
    return {part: tuple(map(joints.index, named[part])) for part in PARTS}


_KINECT_V2_JOINTS = (
    "spine_base", "spine_mid", "neck", "head",
    "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_shoulder", "right_elbow", "right_wrist", "right_hand",
    "left_hip", "left_knee", "left_ankle", "left_foot",
    "right_hip", "right_knee", "right_ankle", "right_foot",
    "spine_shoulder", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb",
)  # fmt: skip

KINECT_V2 = Skeleton(
    name="kinect_v2",
    joints=_KINECT_V2_JOINTS,
    parents=(0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11),
    # The partition of the paper's Fig. 4.
    parts={
        "head": (0, 1, 2, 3),
        "hands": (*range(4, 12), *range(21, 25)),
        "torso": (12, 16, 20),
        "legs": (13, 14, 15, 17, 18, 19),
    },
    hip_center=0,
    spine_mid=1,
    spine_top=20,
    shoulders=(8, 4),
)

_KINECT_V1_JOINTS = (
    "hip_center", "spine", "shoulder_center", "head",
    "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_shoulder", "right_elbow", "right_wrist", "right_hand",
    "left_hip", "left_knee", "left_ankle", "left_foot",
    "right_hip", "right_knee", "right_ankle", "right_foot",
)  # fmt: skip

KINECT_V1 = Skeleton(
    name="kinect_v1",
    joints=_KINECT_V1_JOINTS,
    parents=(0, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    parts=_parts(
        _KINECT_V1_JOINTS,
        head=("shoulder_center", "head"),
        torso=("hip_center", "spine", "left_hip", "right_hip"),
        legs=tuple(f"{s}_{j}" for s in ("left", "right") for j in ("knee", "ankle", "foot")),
    ),
    hip_center=0,
    spine_mid=1,
    spine_top=2,
    shoulders=(8, 4),
)

# The 18 OpenPose joints of ST-GCN, which the paper uses for PKU-MMD ("J = 18", section 4.1.4).
_OPENPOSE_JOINTS = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip

OPENPOSE_18 = Skeleton(
    name="openpose_18",
    joints=_OPENPOSE_JOINTS,
    parents=(1, 1, 1, 2, 3, 1, 5, 6, 2, 8, 9, 5, 11, 12, 0, 0, 14, 15),
    parts=_parts(
        _OPENPOSE_JOINTS,
        head=("nose", "neck", "right_eye", "left_eye", "right_ear", "left_ear"),
        torso=("right_hip", "left_hip"),
        legs=("right_knee", "right_ankle", "left_knee", "left_ankle"),
    ),
    hip_center=8,  # there is no joint between the hips, and none along the spine
    spine_mid=1,
    spine_top=1,
    shoulders=(2, 5),
)

SKELETONS = {layout.name: layout for layout in (KINECT_V1, KINECT_V2, OPENPOSE_18)}

# For each pair (source, target), the source joint of each target joint. Missing joints are
# replaced: finger tips and thumbs by the hand; nose, eyes and ears by the head; OpenPose's neck by
# the shoulder center.
_SOURCE_JOINTS = {
    ("kinect_v1", "kinect_v2"): (0, 1, 2, 3, *range(4, 20), 2, 7, 7, 11, 11),
    ("kinect_v2", "openpose_18"): (3, 20, 8, 9, 10, 4, 5, 6, 16, 17, 18, 12, 13, 14, 3, 3, 3, 3),
    ("kinect_v1", "openpose_18"): (3, 2, 8, 9, 10, 4, 5, 6, 16, 17, 18, 12, 13, 14, 3, 3, 3, 3),
}


def map_joints(clips: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Maps clips to another joint layout.

    Args:
      clips: `[..., V, 3]`, metres.

    Returns:
      `[..., V', 3]` of the same dtype.

    Raises:
      ValueError: there is no such mapping, or the joint axis is not `V` long.
    """
    if clips.shape[-2:] != (source.num_joints, 3):
        raise ValueError(
            f"expected {source.name} clips [..., {source.num_joints}, 3], got {list(clips.shape)}"
        )
    if source.name == target.name:
        return clips
    if (source.name, target.name) not in _SOURCE_JOINTS:
        known = ", ".join(f"{a} to {b}" for a, b in _SOURCE_JOINTS)
        raise ValueError(
            f"no mapping of joints from {source.name} to {target.name}; known mappings: {known}"
        )
    mapped = clips[..., _SOURCE_JOINTS[source.name, target.name], :]
    if target.name == "kinect_v2":  # its neck is halfway between shoulder center and head
        mapped[..., 2, :] = 0.5 * (clips[..., 2, :] + clips[..., 3, :])
    return mapped


def skeleton_of_names(record: Mapping[str, Any]) -> Skeleton:
    """A layout defined by names, as in a dataset.yaml.

    Args:
      record: `joints` (names in array order), `bones` (pairs child, parent; a joint without a bone
        is the root), `parts` (names for each of head, hands, torso, legs), and the names of
        `hip_center`, `spine_top`, `shoulders` (right, left) and, optionally, `spine_mid`.

    Raises:
      ValueError: a key is missing, or a name is not among the joints.
    """
    required = ("joints", "bones", "parts", "hip_center", "spine_top", "shoulders")
    if not isinstance(record, Mapping) or not all(key in record for key in required):
        raise ValueError(f"skeleton: expected the keys {', '.join(required)}, got {record!r}")
    joints = tuple(map(str, record["joints"]))
    if len(set(joints)) < max(2, len(joints)):
        raise ValueError(f"skeleton: expected 2 or more different joints, got {list(joints)}")

    def index(name: Any) -> int:
        if str(name) not in joints:
            raise ValueError(f"skeleton: {name!r} is not one of its joints: {', '.join(joints)}")
        return joints.index(str(name))

    def pair(names: Any, key: str) -> tuple[int, int]:
        if not isinstance(names, list | tuple) or len(names) != 2:
            raise ValueError(f"skeleton: expected pairs of names in {key}, got {names!r}")
        return index(names[0]), index(names[1])

    parents = list(range(len(joints)))
    for bone in record["bones"]:
        child, parent = pair(bone, "bones")
        parents[child] = parent
    ancestors = list(range(len(joints)))
    for _ in joints:  # after V steps each ancestor is a root, unless bones form a cycle
        ancestors = [parents[joint] for joint in ancestors]
    for joint, ancestor in enumerate(ancestors):
        if parents[ancestor] != ancestor:
            raise ValueError(f"skeleton: the bones of {joints[joint]!r} form a cycle")
    if not isinstance(record["parts"], Mapping):
        raise ValueError(f"skeleton: expected parts with joints, got {record['parts']!r}")
    parts = {part: tuple(index(name) for name in record["parts"].get(part, ())) for part in PARTS}
    if not all(parts.values()):
        raise ValueError(f"skeleton: expected joints for each of {', '.join(PARTS)}")
    return Skeleton(
        name=str(record.get("name", "custom")),
        joints=joints,
        parents=tuple(parents),
        parts=parts,
        hip_center=index(record["hip_center"]),
        spine_mid=index(record.get("spine_mid", record["spine_top"])),
        spine_top=index(record["spine_top"]),
        shoulders=pair(record["shoulders"], "shoulders"),
    )
