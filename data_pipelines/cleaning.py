"""Cleaning of clips after reading: gaps are filled, unusable clips are marked."""

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

    Each joint is interpolated linearly in time between its tracked frames, and held constant at the
    ends. A joint without a tracked frame stays 0. So does every person but the first before their
    first and after their last frame, where they are absent.

    Args:
      clip: `[M, T, V, 3]`, metres.

    Returns:
      The filled clip, and the number of filled (person, frame, joint) entries.
    """
    missing = ~np.any(clip != 0, axis=-1)
    if not missing.any():
        return clip, 0
    for person, present in enumerate(~missing.all(axis=-1)):
        frames = np.flatnonzero(present)
        if not len(frames):
            missing[person] = False
        elif person > 0:
            missing[person, : frames[0]] = missing[person, frames[-1] + 1 :] = False
    filled = 0
    clip = clip.copy()
    frames = np.arange(clip.shape[1])
    for person, joint in zip(*np.nonzero(missing.any(axis=1)), strict=True):
        gap = missing[person, :, joint]
        tracked = ~gap & np.any(clip[person, :, joint] != 0, axis=-1)
        if not tracked.any():
            continue
        for axis in range(3):
            series = clip[person, :, joint, axis]
            series[gap] = np.interp(frames[gap], frames[tracked], series[tracked])
        filled += int(gap.sum())
    return clip, filled


def clean(raw: RawClip) -> RawClip:
    """Fills gaps and removes absent persons.

    The notes of the result count the filled entries, and mark clips that are empty or have a single
    frame; see `is_useless`.
    """
    present = np.any(raw.joints != 0, axis=(1, 2, 3))
    # The first person defines the clip's frame of reference, and so must be present.
    joints, filled = fill_gaps(raw.joints[present] if present.any() else raw.joints[:1])
    notes = raw.notes | {
        "untracked joints interpolated (joint-frames)": filled,
        "clips with interpolated joints": int(filled > 0),
        EMPTY: int(not joints.any()),
        SHORT: int(joints.any() and joints.shape[1] < 2),
    }
    return replace(raw, joints=joints, notes={k: v for k, v in notes.items() if v})


def is_useless(raw: RawClip) -> bool:
    """True for a cleaned clip that is empty or has a single frame."""
    return EMPTY in raw.notes or SHORT in raw.notes


def content_hash(joints: np.ndarray) -> str:
    """Hash of an array's shape and values."""
    sha = hashlib.sha256(repr(joints.shape).encode())
    sha.update(np.ascontiguousarray(joints).tobytes())
    return sha.hexdigest()[:16]


def duplicates(hashes: np.ndarray) -> np.ndarray:
    """Marks all but the last of equal clips, `[N]` bool.

    In NW-UCLA 95 clips of view 3, the usual test view, are copies of view 2. The last copy, in the
    test view, is kept and the one in the training views is dropped, so that no clip is in both.
    """
    last = {content: index for index, content in enumerate(hashes)}
    return np.array([last[content] != index for index, content in enumerate(hashes)], bool)
