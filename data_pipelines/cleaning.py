"""What every corpus goes through after reading: gaps filled, bad clips dropped, all counted."""

from dataclasses import replace

import numpy as np

from data_pipelines.corpus import Corpus


def fill_gaps(clip: np.ndarray) -> tuple[np.ndarray, int]:
    """Fills untracked joints (all three coordinates exactly 0) of present persons.

    Each joint is interpolated linearly in time between the frames in which it was seen, and held
    at the ends. A joint that no frame has seen stays 0.

    Args:
      clip: `[M, T, V, 3]`, metres.

    Returns:
      The filled clip and the number of (person, frame, joint) entries that were filled.
    """
    missing = ~np.any(clip != 0, axis=-1)
    missing &= np.any(clip != 0, axis=(1, 2, 3))[:, None, None]
    filled = 0
    if missing.any():
        clip = clip.copy()
        frames = np.arange(clip.shape[1])
        for person, joint in zip(*np.nonzero(missing.any(axis=1)), strict=True):
            gap = missing[person, :, joint]
            if gap.all():
                continue
            for axis in range(3):
                series = clip[person, :, joint, axis]
                series[gap] = np.interp(frames[gap], frames[~gap], series[~gap])
            filled += int(gap.sum())
    return clip, filled


def clean(corpus: Corpus) -> Corpus:
    """Fills gaps and drops empty clips, one-frame clips and exact duplicates, counting each.

    Of equal clips the last by id stays. In NW-UCLA 95 clips of view 3, the usual test view, are
    copies of view 2: this way the copy in the test view stays and its twin leaves the training
    views, so that no array is on both sides.
    """
    filled = [fill_gaps(clip) for clip in corpus.clips]
    empty = np.array([not np.any(clip) for clip, _ in filled])
    short = np.array([clip.shape[1] < 2 for clip, _ in filled])
    last = {clip.tobytes(): i for i, (clip, _) in enumerate(filled)}
    copy = np.array([last[clip.tobytes()] != i for i, (clip, _) in enumerate(filled)])
    keep = np.flatnonzero(~(empty | short | copy))
    notes = corpus.notes | {
        "untracked joints interpolated (joint-frames)": sum(count for _, count in filled),
        "clips with interpolated joints": sum(count > 0 for _, count in filled),
        "dropped, empty": int(empty.sum()),
        "dropped, a single frame": int((short & ~empty).sum()),
        "dropped, exact duplicate of another clip": int((copy & ~short & ~empty).sum()),
    }
    cleaned = replace(corpus, clips=tuple(clip for clip, _ in filled))
    return cleaned.select(keep, notes={k: v for k, v in notes.items() if v})
