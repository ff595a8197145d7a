"""Samples clips of any length to `T` frames and moves them to the body's frame, on the host.

`TEMPORAL_SAMPLING` has the methods; training and test use the same one.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from data_pipelines.skeletons import Skeleton

_MIN_AXIS = 0.05  # metres; shorter axes are dominated by sensor noise
_FLOOR = 0.01  # metres below the lowest joint: a joint at (0, 0, 0) would count as untracked


def normalise(clip: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Moves a clip to the body's frame: hip at the origin, spine along +z, shoulders along x.

    Origin and axes are those of the first person in the first frame whose axes are not degenerate
    (2s-AGCN's pre-normalisation always takes frame 0). The whole clip gets one rotation and one
    shift, so that travelling and jumping are preserved. Absent persons and untracked joints stay 0.

    Args:
      clip: `[M, T, V, 3]`, metres, any rigid frame.

    Returns:
      `[M, T, V, 3]` float32, metres: x to the subject's right, z up.
    """
    body = clip[0]
    spine = body[:, skeleton.spine_top] - body[:, skeleton.hip_center]
    across = body[:, skeleton.shoulders[0]] - body[:, skeleton.shoulders[1]]
    upright = np.linalg.norm(spine, axis=-1) > _MIN_AXIS
    sideways = across - spine * (
        np.sum(across * spine, axis=-1, keepdims=True)
        / np.maximum(np.sum(spine * spine, axis=-1, keepdims=True), 1e-12)
    )
    usable = upright & (np.linalg.norm(sideways, axis=-1) > _MIN_AXIS)
    frame = int(np.argmax(usable))
    if not usable[frame]:
        rotation = np.eye(3)
    else:
        up = spine[frame] / np.linalg.norm(spine[frame])
        right = sideways[frame] / np.linalg.norm(sideways[frame])
        rotation = np.stack([right, np.cross(up, right), up])
    moved = (clip - body[frame, skeleton.hip_center]) @ rotation.T
    return np.where(np.any(clip != 0, axis=-1, keepdims=True), moved, 0).astype(np.float32)


def normalise_upright(clip: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Rotates a clip about the vertical axis and shifts it, so that leaning is preserved.

    In the first frame with usable shoulders of the first person, the shoulders are along x and the
    hip is above the origin. The lowest joint of the clip is just above the floor.

    Args:
      clip: `[M, T, V, 3]`, metres, z up.

    Returns:
      `[M, T, V, 3]` float32, metres: x to the subject's right, z up. Absent persons stay 0.
    """
    body, present = clip[0], np.any(clip != 0, axis=-1, keepdims=True)
    across = (body[:, skeleton.shoulders[0]] - body[:, skeleton.shoulders[1]])[:, :2]
    usable = np.linalg.norm(across, axis=-1) > _MIN_AXIS
    frame, turn = int(np.argmax(usable)), np.eye(3)
    if usable[frame]:
        cosine, sine = across[frame] / np.linalg.norm(across[frame])
        turn[:2, :2] = [[cosine, sine], [-sine, cosine]]
    origin = body[frame, skeleton.hip_center].astype(np.float64)
    origin[2] = np.min(clip[..., 2:], where=present, initial=np.inf) - _FLOOR
    return np.where(present, (clip - origin) @ turn.T, 0).astype(np.float32)


def resample(clip: np.ndarray, frames: int) -> np.ndarray:
    """Interpolates linearly in time: `[M, t, V, 3]` to `[M, frames, V, 3]`.

    If a person is absent in one of the two neighbouring frames, the nearest frame is taken instead,
    since interpolation with zeros would shrink the body.
    """
    position = np.linspace(0, clip.shape[1] - 1, frames)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, clip.shape[1] - 1)
    weight = (position - low)[None, :, None, None].astype(clip.dtype)
    mixed = clip[:, low] * (1 - weight) + clip[:, high] * weight
    present = np.any(clip != 0, axis=(2, 3), keepdims=True)
    nearest = np.where(weight < 0.5, clip[:, low], clip[:, high])
    return np.where(present[:, low] & present[:, high], mixed, nearest)


def pad(clip: np.ndarray, frames: int) -> np.ndarray:
    """Cuts to `frames` frames, or pads with zeros (L = 300 in the paper, for NTU)."""
    clip = clip[:, :frames]
    return np.pad(clip, ((0, 0), (0, frames - clip.shape[1]), (0, 0), (0, 0)))


def loop(clip: np.ndarray, frames: int) -> np.ndarray:
    """Repeats each person's motion up to `frames` frames; longer clips are cut.

    If a person is absent in the first frame, only the frames with the person are repeated (as in
    2s-AGCN's pre-normalisation, which the published Shift-GCN uses).
    """
    clip = pad(clip, frames)
    for person in clip:
        present = np.any(person != 0, axis=(1, 2))
        if not present.any():
            continue
        if not present[0]:
            kept = person[present]
            person[:] = 0
            person[: len(kept)] = kept
            length = len(kept)
        else:
            length = int(np.flatnonzero(present)[-1]) + 1
        repeats = -(-frames // length)
        person[:] = np.tile(person[:length], (repeats, 1, 1))[:frames]
    return clip


def normalise_published(clip: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """2s-AGCN's pre-normalisation: each frame is centred, with the axes of the first frame.

    The middle of the first person's spine is the origin of each frame, which removes travelling and
    jumping. The first frame's spine is rotated to +z, then its shoulders (left to right) to +x. The
    second rotation tilts the spine again if the two are not perpendicular.

    Args:
      clip: `[M, T, V, 3]`, metres.

    Returns:
      `[M, T, V, 3]` float32, metres. Absent persons and frames stay 0.
    """
    present = np.any(clip != 0, axis=(2, 3), keepdims=True)
    moved = (
        clip.astype(np.float64) - clip[:1, :, skeleton.spine_mid : skeleton.spine_mid + 1]
    ) * present
    body = moved[0, 0]
    upright = _shortest_rotation(body[skeleton.spine_mid] - body[skeleton.hip_center], (0, 0, 1))
    right, left = skeleton.shoulders
    sideways = _shortest_rotation(upright.apply(body[right] - body[left]), (1, 0, 0))
    turn = (sideways * upright).as_matrix()
    return (moved @ turn.T).astype(np.float32)


def _shortest_rotation(direction: np.ndarray, axis: tuple[int, int, int]) -> Rotation:
    """The shortest rotation from a direction to an axis."""
    about = np.cross(direction, axis)
    length, norm = np.linalg.norm(about), np.linalg.norm(direction)
    if length < 1e-6 or norm < 1e-6:
        return Rotation.identity()
    return Rotation.from_rotvec(about / length * np.arccos(np.clip(direction @ axis / norm, -1, 1)))


# Functions of `(clip [M, t, V, 3], skeleton, frames)` with the result `[M, frames, V, 3]`, metres.
TEMPORAL_SAMPLING = {
    "resample": lambda clip, skeleton, frames: resample(normalise(clip, skeleton), frames),
    "upright": lambda clip, skeleton, frames: resample(normalise_upright(clip, skeleton), frames),
    "pad": lambda clip, skeleton, frames: pad(normalise(clip, skeleton), frames),
    "published": lambda clip, skeleton, frames: normalise_published(loop(clip, frames), skeleton),
}
