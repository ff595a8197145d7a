"""Body height from bone lengths, independent of the pose; used to check the unit of length."""

import numpy as np
from jaxtyping import Float

from data_pipelines.skeletons import Skeleton

SHORTEST, TALLEST = 0.5, 2.5  # plausible body heights, metres
# Factor that sensor noise may add to or remove from the height of a clip; wrong units exceed it.
_TOLERANCE = 4.0
_HEIGHT_OVER_BONES = 1.11  # body height over the length of thigh, shin, trunk and head
_LEGS = tuple(
    tuple(f"{side}_{joint}" for joint in ("hip", "knee", "ankle")) for side in ("left", "right")
)
_TRUNKS = (  # of Kinect v1 and v2
    ("hip_center", "spine", "shoulder_center", "head"),
    ("spine_base", "spine_mid", "spine_shoulder", "head"),
)


def body_height(
    bodies: Float[np.ndarray, "T V 3"], skeleton: Skeleton, quantile: float = 0.5
) -> float | None:
    """Height from the lengths of thigh, shin, trunk and head, in the unit of the joints.

    Args:
      quantile: of each length over frames; a high one for clips without depth.

    Returns:
      The height; None for a skeleton without these joints.
    """
    names = set(skeleton.joints)
    trunk = next((chain for chain in _TRUNKS if names.issuperset(chain)), None)
    if trunk is None or not names.issuperset(_LEGS[0] + _LEGS[1]):
        return None

    def length(chain: tuple[str, ...]) -> float:
        points = bodies[:, [skeleton.joints.index(name) for name in chain]]
        bones = np.linalg.norm(np.diff(points, axis=1), axis=-1)
        return float(np.quantile(bones, quantile, axis=0).sum())

    legs = (length(_LEGS[0]) + length(_LEGS[1])) / 2
    return _HEIGHT_OVER_BONES * (legs + length(trunk))


def check_metres(clip: Float[np.ndarray, "M T V 3"], skeleton: Skeleton) -> None:
    """Refuses a clip whose unit cannot be metres.

    Frames with untracked joints and skeletons without a known height are not checked.

    Raises:
      ValueError: the height of the body is not plausible.
    """
    bodies = clip.reshape(-1, *clip.shape[2:])
    bodies = bodies[np.all(np.any(bodies != 0, axis=-1), axis=-1)].astype(np.float64)
    height = body_height(bodies, skeleton) if len(bodies) else None
    if height is None or SHORTEST / _TOLERANCE <= height <= TALLEST * _TOLERANCE:
        return
    raise ValueError(
        f"expected a body of {SHORTEST} to {TALLEST} m, got {height:.3g} m: the unit of the "
        "joints may not be metres"
    )
