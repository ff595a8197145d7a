"""What every clip goes through after reading: gaps filled, useless clips named."""

import hashlib
from dataclasses import replace

import numpy as np

from data_pipelines.formats.raw import RawClip

EMPTY = "dropped, empty"
SHORT = "dropped, a single frame"
COPY = "dropped, exact duplicate of another clip"
COPY_KEPT = "exact duplicates of another clip, kept as the published protocols count them"


def fill_gaps(clip: np.ndarray) -> tuple[np.ndarray, int]:
    """Fills untracked joints (all three coordinates exactly 0) of present persons.

    Each joint is interpolated linearly in time between the frames in which it was seen, and held
    at the ends. A joint that no frame has seen stays 0, and so does a second person before the
    first and after the last frame with them: people come and go.

    Args:
      clip: `[M, T, V, 3]`, metres.

    Returns:
      The filled clip and the number of (person, frame, joint) entries that were filled.
    """
    missing = ~np.any(clip != 0, axis=-1)
    if not missing.any():
        return clip, 0
    for person, seen in enumerate(~missing.all(axis=-1)):
        frames = np.flatnonzero(seen)
        if not len(frames):
            missing[person] = False
        elif person > 0:
            missing[person, : frames[0]] = missing[person, frames[-1] + 1 :] = False
    filled = 0
    clip = clip.copy()
    frames = np.arange(clip.shape[1])
    for person, joint in zip(*np.nonzero(missing.any(axis=1)), strict=True):
        gap = missing[person, :, joint]
        known = ~gap & np.any(clip[person, :, joint] != 0, axis=-1)
        if not known.any():
            continue
        for axis in range(3):
            series = clip[person, :, joint, axis]
            series[gap] = np.interp(frames[gap], frames[known], series[known])
        filled += int(gap.sum())
    return clip, filled


def clean(raw: RawClip) -> RawClip:
    """A clip of the persons that are there, gaps filled, with notes: how many, why to drop it."""
    there = np.any(raw.joints != 0, axis=(1, 2, 3))
    # The first person is the one whose frame of reference the clip gets: that slot is not empty.
    joints, filled = fill_gaps(raw.joints[there] if there.any() else raw.joints[:1])
    notes = raw.notes | {
        "untracked joints interpolated (joint-frames)": filled,
        "clips with interpolated joints": int(filled > 0),
        EMPTY: int(not joints.any()),
        SHORT: int(joints.any() and joints.shape[1] < 2),
    }
    return replace(raw, joints=joints, notes={k: v for k, v in notes.items() if v})


def is_useless(raw: RawClip) -> bool:
    """Whether a cleaned clip is empty or a single frame."""
    return EMPTY in raw.notes or SHORT in raw.notes


def content_hash(joints: np.ndarray) -> str:
    """Equal for equal arrays."""
    sha = hashlib.sha256(repr(joints.shape).encode())
    sha.update(np.ascontiguousarray(joints).tobytes())
    return sha.hexdigest()[:16]


def duplicates(hashes: np.ndarray) -> np.ndarray:
    """True for every clip but the last of those that are equal, `[N]`.

    In NW-UCLA 95 clips of view 3, the usual test view, are copies of view 2: this way the copy in
    the test view stays and its twin leaves the training views, so that no array is on both sides.
    """
    last = {content: i for i, content in enumerate(hashes)}
    return np.array([last[content] != i for i, content in enumerate(hashes)], bool)
