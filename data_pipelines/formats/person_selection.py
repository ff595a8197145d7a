"""Selects the persons of a clip among tracked bodies: drops noise, keeps two persons at most.

A Kinect gives each body a tracking id. It also tracks furniture, gives a person a new id after an
interruption, and lists the bodies of a frame in any order.
"""

from collections.abc import Sequence

import numpy as np

MAX_PERSONS = 2
# Denoising rules of CTR-GCN and its predecessors: a track of 11 frames or fewer is noise, and so is
# a track whose width exceeds 0.8 times its height in 70 % of its frames.
SHORTEST_TRACK = 12
WIDEST = 0.8
NOISY_SHARE = 0.69754


def select_persons(
    num_frames: int, frame: np.ndarray, track: Sequence, joints: np.ndarray, denoise: bool = True
) -> tuple[np.ndarray, dict[str, int]]:
    """The one or two persons that move most, in order of decreasing motion.

    Tracks without a common frame may belong to one person: each is added to the first person whose
    frames it does not overlap. A rule that would drop all tracks is not applied.

    Args:
      num_frames: `T`.
      frame: `[K]` frame of each body.
      track: `K` tracking ids.
      joints: `[K, V, 3]`, metres, y up.
      denoise: whether short and wide tracks are dropped if there are others.

    Returns:
      `[M, T, V, 3]` float32 with `M` 1 or 2, zeros where a person is absent; and the numbers of
      dropped bodies.
    """
    positions: dict = {}
    for position, name in enumerate(track):
        positions.setdefault(name, []).append(position)
    tracks = [(frame[of_track], joints[of_track]) for of_track in positions.values()]
    notes = {}
    if denoise and len(tracks) > 1:
        for reason, keep in (
            (f"bodies dropped, seen in fewer than {SHORTEST_TRACK} frames", _is_long),
            ("bodies dropped, too wide to be a person", _is_upright),
        ):
            kept = [track for track in tracks if keep(track[1])] or tracks
            notes[reason] = len(tracks) - len(kept)
            tracks = kept
    if len(tracks) > 1:
        tracks.sort(key=lambda track: -motion(track[1]))  # stable: ties keep the file's order
    persons = np.zeros((MAX_PERSONS, num_frames, *joints.shape[1:]), np.float32)
    present = np.zeros((MAX_PERSONS, num_frames), bool)
    dropped = 0
    for frames, body in tracks:
        free = [m for m in range(MAX_PERSONS) if not present[m, frames].any()]
        if free:
            persons[free[0], frames] = body
            present[free[0], frames] = True
        else:
            dropped += 1
    notes["bodies dropped, a third person"] = dropped
    count = max(1, int(present.any(axis=1).sum()))
    return persons[:count], {reason: count for reason, count in notes.items() if count}


def motion(body: np.ndarray) -> float:
    """The usual measure of the motion of a body `[k, V, 3]`.

    The sum of the standard deviations of x, y and z over frames and joints; it also grows with the
    size of the body.
    """
    return float(body.std(axis=(0, 1), dtype=np.float64).sum())


def _is_long(body: np.ndarray) -> bool:
    return len(body) >= SHORTEST_TRACK


def _is_upright(body: np.ndarray) -> bool:
    extent = np.ptp(body, axis=1)
    return bool((extent[:, 0] > WIDEST * extent[:, 1]).mean() < NOISY_SHARE)
