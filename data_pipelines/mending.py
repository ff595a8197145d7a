"""Repairs users' clips before joints are mapped: fills gaps, refuses unusable clips."""

import numpy as np
from jaxtyping import Float

from data_pipelines.cleaning import fill_gaps

MOST_MISSING = 0.3  # maximum fraction of joint positions that may be interpolated
INTERPOLATED = "missing joint positions are interpolated in time"
UNEVEN = "frame times are not uniform: resampled at a constant rate"
_JITTER = 0.1  # fraction of the time between frames
_STILL = 1e-6  # motion over the size of the body
_MAX_STRETCH = 10  # number of frames after resampling over that before


def never_tracked(joints: Float[np.ndarray, "M T V k"], root: int | None) -> tuple[int, ...]:
    """Indices of joints that are 0, NaN or infinite in all frames.

    The root is excluded if the clip is relative to it. The result is empty for a clip without any
    position, which `mend` refuses.
    """
    finite = np.isfinite(joints).all(axis=-1)
    tracked = np.any(finite & (joints != 0).any(axis=-1), axis=(0, 1))
    if not tracked.any():
        return ()
    if root is not None and _is_relative(np.where(finite[0, 0, :, None], joints[0, 0], 0), root):
        tracked[root] = True
    return tuple(np.flatnonzero(~tracked).tolist())


def mend(
    joints: Float[np.ndarray, "M T V k"], used: np.ndarray, root: int | None
) -> tuple[Float[np.ndarray, "M T V 3"], list[str]]:
    """Fills gaps of the used joints, and removes absent persons.

    A position that is NaN, infinite or 0 in all coordinates is missing. In a clip that is relative
    to its root (which is 0 in the first frame) zeros are positions; such a clip is shifted.

    Args:
      joints: `k` is 3, or 2 for 2D clips.
      used: `[V]` bool; the other joints are 0 in the result.
      root: index of the root joint, if known.

    Returns:
      The clip, float64, and the changes in short sentences.

    Raises:
      ValueError: the clip has a single frame, only zeros, no motion, or too many gaps.
    """
    if joints.shape[1] < 2:
        raise ValueError(f"expected 2 or more frames, got {joints.shape[1]}")
    finite = np.isfinite(joints).all(axis=-1)
    clip = np.where(finite[..., None], joints, 0).astype(np.float64)
    clip = np.pad(clip, ((0, 0), (0, 0), (0, 0), (0, 3 - clip.shape[-1])))
    if not clip.any():
        reason = "all coordinates are 0" if finite.all() else "no coordinate is finite"
        raise ValueError(f"expected positions of joints: {reason}")
    present = clip.any(axis=(1, 2, 3))
    clip, finite = clip[present], finite[present]
    if root is not None and _is_relative(clip[0, 0], root):
        away = np.array([0, 0, 1 + np.abs(clip).max()])
        here = finite[..., None] & np.any(clip != 0, axis=(2, 3), keepdims=True)
        clip = np.where(here, clip + away, 0)
    clip = np.where(used[:, None], clip, 0)
    statements = _fill(clip, used)
    filled = fill_gaps(clip)[0] if statements else clip
    size = np.ptp(filled, axis=(0, 1, 2)).max()
    if np.ptp(filled, axis=1).max() <= _STILL * size:
        raise ValueError("no motion: all frames are the same")
    return filled, statements


def _is_relative(body: Float[np.ndarray, "V k"], root: int) -> bool:
    """Whether the root is 0 because the body surrounds it, not because it is untracked."""
    others = body[body.any(axis=-1)]
    if body[root].any() or not len(others):
        return False
    return bool(np.linalg.norm(others.mean(axis=0)) < np.linalg.norm(np.ptp(others, axis=0)))


def _fill(clip: np.ndarray, used: np.ndarray) -> list[str]:
    """Checks that few enough positions are missing; returns a sentence if there are any."""
    missing = np.all(clip == 0, axis=-1) & used
    absent = np.all(missing[..., used], axis=-1)
    absent[0] = False  # gaps of the first person are filled
    gaps = missing & ~absent[..., None]
    nowhere = np.all((gaps | absent[..., None])[..., used], axis=1)
    lost = nowhere & ~np.all(absent, axis=1)[:, None]
    if lost.any():
        raise ValueError(f"person {np.argwhere(lost)[0][0] + 1} lacks a joint in all frames")
    share = gaps.sum() / max(1, (~absent).sum() * used.sum())
    if share > MOST_MISSING:
        raise ValueError(
            f"{share:.0%} of the joint positions are missing (NaN, infinite or 0), expected at "
            f"most {MOST_MISSING:.0%}"
        )
    return [INTERPOLATED] if gaps.any() else []


def even_frames(
    joints: Float[np.ndarray, "M T V 3"], times: Float[np.ndarray, " T"]
) -> tuple[np.ndarray, float, list[str]]:
    """Frames at a constant rate, by linear interpolation if times are not uniform.

    Args:
      times: seconds.

    Returns:
      The clip, its frames per second, and the changes in short sentences.

    Raises:
      ValueError: times do not increase, or have long gaps.
    """
    steps = np.diff(times)
    if not len(steps) or steps.min() <= 0:
        raise ValueError("times: expected increasing seconds")
    step = float(np.median(steps))
    if np.abs(steps - step).max() <= _JITTER * step:
        return joints, 1 / step, []
    count = int((times[-1] - times[0]) / step + 1.5)
    if count > _MAX_STRETCH * len(times):
        raise ValueError(f"times: expected no long gaps, got {steps.max():.3g} s")
    position = np.interp(np.linspace(times[0], times[-1], count), times, np.arange(len(times)))
    low = np.minimum(position.astype(int), len(times) - 2)
    share = (position - low)[:, None, None]
    present = np.any(joints != 0, axis=(2, 3), keepdims=True)
    mixed = joints[:, low] * (1 - share) + joints[:, low + 1] * share
    nearest = np.where(share < 0.5, joints[:, low], joints[:, low + 1])
    both = present[:, low] & present[:, low + 1]
    return np.where(both, mixed, nearest), (count - 1) / (times[-1] - times[0]), [UNEVEN]
