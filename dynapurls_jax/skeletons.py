"""Joint layouts: names, bones, body parts, and the mapping from Kinect v1 to NTU joints."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """A joint layout.

    Attributes:
      name: how configurations and files refer to it.
      joints: names, in array order; `V` is their number.
      parents: index of each joint's parent, the root's own index at the root.
      parts: joint indices of head, hands, torso and legs, the granularities 1-4.
      hip_center, spine_top, shoulders: the joints that pre-normalisation is built on
        (root, top of the vertical axis, right and left ends of the horizontal axis).
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    parts: dict[str, tuple[int, ...]]
    hip_center: int
    spine_top: int
    shoulders: tuple[int, int]

    @property
    def num_joints(self) -> int:
        """`V`."""
        return len(self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) pairs, the root left out."""
        return tuple((c, p) for c, p in enumerate(self.parents) if c != p)


def _parts(joints, head, torso, legs):
    named = {"head": head, "torso": torso, "legs": legs}
    taken = {j for names in named.values() for j in names}
    named["hands"] = tuple(j for j in joints if j not in taken)
    return {
        part: tuple(joints.index(j) for j in named[part])
        for part in ("head", "hands", "torso", "legs")
    }


# fmt: off
_KINECT_V2_JOINTS = (
    "spine_base", "spine_mid", "neck", "head",
    "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_shoulder", "right_elbow", "right_wrist", "right_hand",
    "left_hip", "left_knee", "left_ankle", "left_foot",
    "right_hip", "right_knee", "right_ankle", "right_foot",
    "spine_shoulder", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb",
)
# fmt: on

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
    spine_top=20,
    shoulders=(8, 4),
)

# fmt: off
_KINECT_V1_JOINTS = (
    "hip_center", "spine", "shoulder_center", "head",
    "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_shoulder", "right_elbow", "right_wrist", "right_hand",
    "left_hip", "left_knee", "left_ankle", "left_foot",
    "right_hip", "right_knee", "right_ankle", "right_foot",
)
# fmt: on

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
    spine_top=2,
    shoulders=(8, 4),
)

SKELETONS = {layout.name: layout for layout in (KINECT_V1, KINECT_V2)}

# Kinect v1 joint that stands in for each Kinect v2 joint; the neck is placed between shoulder
# centre and head, finger tips and thumbs at the hand.
_V1_FOR_V2 = (0, 1, 2, 3, *range(4, 20), 2, 7, 7, 11, 11)


def to_kinect_v2(clips: np.ndarray) -> np.ndarray:
    """Maps 20 Kinect v1 joints to the 25 of NTU RGB+D.

    Args:
      clips: `[..., 20, 3]`, metres.

    Returns:
      `[..., 25, 3]` of the same dtype.

    Raises:
      ValueError: the joint axis is not 20 long.
    """
    if clips.shape[-2:] != (20, 3):
        raise ValueError(f"expected Kinect v1 clips [..., 20, 3], got {list(clips.shape)}")
    mapped = clips[..., _V1_FOR_V2, :].copy()
    mapped[..., 2, :] = 0.5 * (clips[..., 2, :] + clips[..., 3, :])
    return mapped
