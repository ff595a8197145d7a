"""A labelled set of skeleton clips in memory, and what was found wrong with it."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from dynapurls_jax.skeletons import Skeleton


@dataclass(frozen=True)
class Corpus:
    """Clips of one dataset with everything that protocols need to know about them.

    Attributes:
      name: dataset name, as in configurations.
      skeleton: joint layout of every clip.
      class_names: class id to name; labels index it.
      clips: each `[M, T, V, 3]` float32, metres; `T` differs between clips.
      labels, subjects, views: `[N]` int.
      clip_ids: unique names, the order of everything else.
      synthetic: True when no human ever moved for it.
      notes: what was filled, dropped or is worth knowing, with counts; see `summary`.
    """

    name: str
    skeleton: Skeleton
    class_names: tuple[str, ...]
    clips: tuple[np.ndarray, ...]
    labels: np.ndarray
    subjects: np.ndarray
    views: np.ndarray
    clip_ids: tuple[str, ...]
    synthetic: bool = False
    notes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clips)

    def select(self, keep: np.ndarray, **changes) -> "Corpus":
        """The clips at the indices `keep`, in that order."""
        return replace(
            self,
            clips=tuple(self.clips[i] for i in keep),
            labels=self.labels[keep],
            subjects=self.subjects[keep],
            views=self.views[keep],
            clip_ids=tuple(self.clip_ids[i] for i in keep),
            **changes,
        )

    @cached_property
    def digest(self) -> str:
        """Hash of all clips, labels and ids: two corpora with the same digest are the same."""
        sha = hashlib.sha256(repr((self.name, self.class_names, self.clip_ids)).encode())
        for array in (self.labels, self.subjects, self.views, *self.clips):
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:16]

    def summary(self) -> str:
        """The data summary that training prints: sizes, ranges, and every note with its count."""
        frames = np.array([clip.shape[1] for clip in self.clips])
        low, middle, high = np.percentile(frames, [0, 50, 100]).astype(int)
        persons = Counter(int(np.any(clip != 0, axis=(1, 2, 3)).sum()) for clip in self.clips)
        kind = "SYNTHETIC clips" if self.synthetic else "clips"
        lines = [
            f"{self.name}: {len(self)} {kind}, {len(self.class_names)} classes, "
            f"{len(np.unique(self.subjects))} subjects, {len(np.unique(self.views))} view(s)",
            f"  joints {self.skeleton.num_joints} ({self.skeleton.name}); "
            f"frames {low} to {high}, median {middle}; persons "
            + ", ".join(f"{count} clips with {m}" for m, count in sorted(persons.items())),
        ]
        lines += [f"  {note}: {count}" for note, count in self.notes.items()]
        return "\n".join(lines)
