"""A labelled set of skeleton clips, and what was found wrong with it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from data_pipelines.cleaning import content_hash
from data_pipelines.skeletons import Skeleton

# What a protocol may do with a clip.
TRAIN, TEST, NEITHER = 1, 0, -1


@dataclass(frozen=True)
class Corpus:
    """Clips of one dataset with everything that protocols need to know about them.

    Attributes:
      name: dataset name, as in configurations.
      skeleton: joint layout of every clip.
      class_names: class id to name; labels index it.
      clips: each `[M, T, V, 3]` float32, metres; `M` and `T` differ between clips. They may be read
        from disk one at a time: use `frames` and `persons` to learn about all.
      labels, subjects, views, setups: `[N]` int.
      clip_ids: unique names, the order of everything else.
      frames, persons: `[N]` the `T` and the `M` of each clip.
      hashes: `[N]` of the clips' content.
      sides: protocol name to `[N]`, each `TRAIN`, `TEST` or `NEITHER`; the first is the dataset's
        usual protocol.
      splits: name of a published split to its unseen classes.
      descriptions: name of the dataset whose shipped descriptions fit, or a file; empty: `name`.
      synthetic: True when no human ever moved for it.
      notes: what was filled, dropped or is worth knowing, with counts; see `summary`.
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

    def select(self, keep: np.ndarray, **changes) -> "Corpus":
        """The clips at the indices `keep`, in that order."""
        arrays = ("labels", "subjects", "views", "setups", "frames", "persons", "hashes")
        return replace(
            self,
            clips=Subset(self.clips, keep),
            clip_ids=tuple(self.clip_ids[i] for i in keep),
            sides={name: side[keep] for name, side in self.sides.items()},
            **{name: getattr(self, name)[keep] for name in arrays},
            **changes,
        )

    @cached_property
    def digest(self) -> str:
        """Hash of all clips, labels and ids: two corpora with the same digest are the same."""
        sha = hashlib.sha256(
            repr((self.name, self.skeleton, self.class_names, self.clip_ids)).encode()
        )
        for array in (self.labels, self.subjects, self.views, self.setups, *self.sides.values()):
            sha.update(np.ascontiguousarray(array).tobytes())
        sha.update("".join(self.hashes).encode())
        return sha.hexdigest()[:16]

    def summary(self) -> str:
        """The data summary that training prints: sizes, ranges, and every note with its count."""
        kind = "SYNTHETIC clips" if self.synthetic else "clips"
        lines = [
            f"{self.name}: {len(self)} {kind}, {len(np.unique(self.labels))} of "
            f"{len(self.class_names)} classes, {len(np.unique(self.subjects))} subjects, "
            f"{len(np.unique(self.views))} view(s)",
        ]
        if len(self.clips):
            low, middle, high = np.percentile(self.frames, [0, 50, 100]).astype(int)
            persons = sorted(Counter(self.persons.tolist()).items())
            lines.append(
                f"  joints {self.skeleton.num_joints} ({self.skeleton.name}); "
                f"frames {low} to {high}, median {middle}; persons "
                + ", ".join(f"{count} clips with {m}" for m, count in persons)
            )
        lines += [f"  {note}: {count}" for note, count in self.notes.items()]
        return "\n".join(lines)


class Subset(Sequence):
    """Some clips of a sequence, read when they are asked for."""

    def __init__(self, clips: Sequence[np.ndarray], keep: np.ndarray):
        self.clips, self.keep = clips, keep

    def __len__(self) -> int:
        return len(self.keep)

    def __getitem__(self, index):
        return self.clips[int(self.keep[index])]


def corpus_of_clips(clips: Sequence[np.ndarray], **fields) -> Corpus:
    """A corpus of clips that are in memory; what can be learnt from the clips is filled in."""
    return Corpus(
        clips=tuple(clips),
        frames=np.array([clip.shape[1] for clip in clips], np.int32),
        persons=np.array([count_persons(clip) for clip in clips], np.int32),
        hashes=np.array([content_hash(clip) for clip in clips]),
        **fields,
    )


def count_persons(clip: np.ndarray) -> int:
    """How many persons of a clip `[M, T, V, 3]` are ever there."""
    return int(np.any(clip != 0, axis=(1, 2, 3)).sum())
