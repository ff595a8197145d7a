"""The corpus: labelled skeleton clips with their protocols and notes."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from data_pipelines.cleaning import content_hash
from data_pipelines.skeletons import Skeleton

# Use of a clip by a protocol.
TRAIN, TEST, NEITHER = 1, 0, -1
PREDEFINED = "predefined"  # name of the protocol of arrays that come with a single one


@dataclass(frozen=True)
class Corpus:
    """Clips of one dataset, with labels and protocols.

    Attributes:
      name: name of the dataset.
      skeleton: joint layout of every clip.
      class_names: names in class id order.
      clips: each `[M, T, V, 3]` float32, metres; `M` and `T` differ between clips. Real clips are
        read from disk on access; `frames` and `persons` have their shapes.
      labels, subjects, views, setups: `[N]` int.
      clip_ids: `N` unique names.
      frames, persons: `[N]`, `T` and `M` of each clip.
      hashes: `[N]`, hashes of the clips' content.
      sides: for each protocol name `[N]`, each `TRAIN`, `TEST` or `NEITHER`; the first protocol is
        the dataset's default.
      splits: unseen classes of each published split, by its name.
      descriptions: dataset whose shipped descriptions are used, or a file; empty: `name`.
      synthetic: True for generated clips.
      notes: counts of filled gaps, dropped clips and other facts; see `summary`.
    """

    name: str
    skeleton: Skeleton
    class_names: tuple[str, ...]
    clips: Sequence[np.ndarray]
    labels: np.ndarray
    subjects: np.ndarray
    views: np.ndarray
    setups: np.ndarray
    clip_ids: tuple[str, ...]
    frames: np.ndarray
    persons: np.ndarray
    hashes: np.ndarray
    sides: dict[str, np.ndarray]
    splits: dict[str, tuple[int, ...]] = field(default_factory=dict)
    descriptions: str = ""
    synthetic: bool = False
    notes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray, **changes) -> "Corpus":
        """The clips at these indices, in that order; `changes` replaces other attributes."""
        arrays = ("labels", "subjects", "views", "setups", "frames", "persons", "hashes")
        return replace(
            self,
            clips=_Subset(self.clips, indices),
            clip_ids=tuple(self.clip_ids[index] for index in indices),
            sides={name: side[indices] for name, side in self.sides.items()},
            **{name: getattr(self, name)[indices] for name in arrays},
            **changes,
        )

    @cached_property
    def digest(self) -> str:
        """Hash of all clips, labels, ids and protocols; equal for equal corpora."""
        sha = hashlib.sha256(
            repr((self.name, self.skeleton, self.class_names, self.clip_ids)).encode()
        )
        for array in (self.labels, self.subjects, self.views, self.setups, *self.sides.values()):
            sha.update(np.ascontiguousarray(array).tobytes())
        sha.update("".join(self.hashes).encode())
        return sha.hexdigest()[:16]

    def summary(self) -> str:
        """Sizes, ranges, and each note with its count, as lines for the terminal."""
        kind = "SYNTHETIC clips" if self.synthetic else "clips"
        lines = [
            f"{self.name}: {len(self)} {kind}, {len(np.unique(self.labels))} of "
            f"{len(self.class_names)} classes, {_count(self.subjects, 'subject')}, "
            f"{_count(self.views, 'view')}",
        ]
        if len(self.clips):
            low, middle, high = np.percentile(self.frames, [0, 50, 100]).astype(int)
            persons = sorted(Counter(self.persons.tolist()).items())
            lines.append(
                f"  joints {self.skeleton.num_joints} ({self.skeleton.name}); "
                f"frames {low} to {high}, median {middle}; persons: "
                + ", ".join(f"{number} in {count} clips" for number, count in persons)
            )
        lines += [f"  {note}: {count}" for note, count in self.notes.items()]
        return "\n".join(lines)


def _count(values: np.ndarray, noun: str) -> str:
    number = len(np.unique(values))
    return f"{number} {noun}{'s' * (number != 1)}"


class _Subset(Sequence):
    """A subset of a sequence of clips, read on access."""

    def __init__(self, clips: Sequence[np.ndarray], indices: np.ndarray):
        self.clips, self.indices = clips, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index):
        return self.clips[int(self.indices[index])]


def corpus_of_clips(clips: Sequence[np.ndarray], **fields) -> Corpus:
    """A corpus of clips in memory; computes `frames`, `persons` and `hashes`."""
    return Corpus(
        clips=tuple(clips),
        frames=np.array([clip.shape[1] for clip in clips], np.int32),
        persons=np.array([np.any(clip != 0, axis=(1, 2, 3)).sum() for clip in clips], np.int32),
        hashes=np.array([content_hash(clip) for clip in clips]),
        **fields,
    )
