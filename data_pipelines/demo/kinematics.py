"""Forward kinematics of the 25-joint body, from degrees of freedom to joint positions."""

from graphlib import TopologicalSorter

import numpy as np
from scipy.spatial.transform import Rotation

from data_pipelines.skeletons import KINECT_V2

# Rest offsets from the parent in metres: standing, arms hanging, x to the subject's right, y up,
# facing -z (towards the camera).
_OFFSETS = {
    "spine_mid": (0, 0.28, 0),
    "spine_shoulder": (0, 0.24, 0),
    "neck": (0, 0.08, 0),
    "head": (0, 0.15, -0.02),
    "shoulder": (0.17, -0.03, 0),
    "elbow": (0.03, -0.27, 0),
    "wrist": (0, -0.25, 0),
    "hand": (0, -0.08, 0),
    "hand_tip": (0, -0.08, 0),
    "thumb": (-0.03, -0.03, -0.03),
    "hip": (0.09, -0.05, 0),
    "knee": (0, -0.42, 0),
    "ankle": (0, -0.40, 0),
    "foot": (0, -0.06, -0.12),
}

# Degree of freedom: (joint, axis, sign on the right or only side, sign on the left side).
_DOF: dict[str, tuple[str, int, int, int]] = {
    "head.bend": ("neck", 0, -1, -1),
    "head.lean": ("neck", 2, -1, -1),
    "torso.bend": ("spine_mid", 0, -1, -1),
    "torso.twist": ("spine_mid", 1, 1, 1),
    "torso.lean": ("spine_mid", 2, -1, -1),
    "shoulder.flex": ("shoulder", 0, 1, 1),
    "shoulder.abduct": ("shoulder", 2, 1, -1),
    "elbow.bend": ("elbow", 0, 1, 1),
    "elbow.sway": ("elbow", 2, 1, -1),
    "hip.flex": ("hip", 0, 1, 1),
    "hip.abduct": ("hip", 2, 1, -1),
    "knee.bend": ("knee", 0, -1, -1),
}

_INDEX = {name: i for i, name in enumerate(KINECT_V2.joints)}


# Topological order: each joint after its parent.
_ORDER = tuple(
    TopologicalSorter({joint: {parent} for joint, parent in KINECT_V2.bones}).static_order()
)


def rest_offsets() -> np.ndarray:
    """Offsets of every joint from its parent in the rest pose, `[25, 3]`, metres."""
    offsets = np.zeros((KINECT_V2.num_joints, 3))
    for name, index in _INDEX.items():
        side, _, rest = name.partition("_")
        if side in ("left", "right"):
            mirror = np.array([-1.0 if side == "left" else 1.0, 1, 1])
            offsets[index] = np.array(_OFFSETS[rest]) * mirror
        elif name in _OFFSETS:
            offsets[index] = _OFFSETS[name]
    return offsets


def move(offsets: np.ndarray, dofs: dict[str, np.ndarray]) -> np.ndarray:
    """Joint positions over time; the lower foot is on the floor, y = 0, except in jumps.

    Args:
      offsets: `[25, 3]`, metres, of one subject.
      dofs: values `[T]` of each degree of freedom: `right_shoulder.flex` or `torso.bend` in
        radians, `root.rise` and `root.side` in metres.

    Returns:
      Joints `[T, 25, 3]`, metres, facing -z.
    """
    frames = len(next(iter(dofs.values())))
    euler = np.zeros((frames, KINECT_V2.num_joints, 3))
    root = np.zeros((frames, 3))
    for name, values in dofs.items():
        if name == "root.side":
            root[:, 0] += values
        elif name == "root.rise":
            root[:, 1] += values
        else:
            prefix, _, dof = name.rpartition("_")
            moved, axis, right, left = _DOF[dof if prefix in ("left", "right") else name]
            index = _INDEX[f"{prefix}_{moved}" if prefix in ("left", "right") else moved]
            euler[:, index, axis] += values * (left if prefix == "left" else right)
    local = Rotation.from_euler("xyz", euler.reshape(-1, 3)).as_matrix()
    local = local.reshape(frames, KINECT_V2.num_joints, 3, 3)
    turned = local.copy()
    joints = np.zeros((frames, KINECT_V2.num_joints, 3))
    for joint in _ORDER[1:]:
        parent = KINECT_V2.parents[joint]
        joints[:, joint] = joints[:, parent] + turned[:, parent] @ offsets[joint]
        turned[:, joint] = turned[:, parent] @ local[:, joint]
    joints[:, :, 1] -= joints[:, :, 1].min(axis=1, keepdims=True)
    return joints + root[:, None]
