"""Zero-shot protocols: training, validation and test clips, seen and unseen classes."""

import json
import math
import re
from dataclasses import dataclass
from importlib import resources

import numpy as np
from sklearn.model_selection import train_test_split

from data_pipelines.corpus import TEST, TRAIN, Corpus
from data_pipelines.errors import unknown

VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Protocol:
    """A zero-shot protocol on one corpus. Class ids are those of the corpus, not renumbered.

    Attributes:
      split: name of the split.
      seen, unseen: sorted class ids.
      train, val: indices of clips of seen classes by training subjects (views), without overlap.
      seen_test: indices of clips of seen classes by test subjects; for reports only.
      unseen_test: indices of clips of unseen classes by test subjects. In a pseudo split these are
        held-out seen classes by training subjects, which may be used to choose settings.
    """

    split: str
    seen: np.ndarray
    unseen: np.ndarray
    train: np.ndarray
    val: np.ndarray
    seen_test: np.ndarray
    unseen_test: np.ndarray


def published_splits(dataset: str) -> dict[str, tuple[int, ...]]:
    """Unseen classes of each split in the literature, by name; empty if there are none."""
    text = resources.files("data_pipelines").joinpath("splits.json").read_text("utf-8")
    return {name: tuple(unseen) for name, unseen in json.loads(text).get(dataset, {}).items()}


def base_split(split: str) -> str:
    """The split whose seen classes a pseudo split divides; empty for other splits."""
    found = re.fullmatch(r"pseudo-(.+)-\d+", split)
    if found and found[1].startswith("pseudo-"):
        raise ValueError(f"split {split!r}: expected a pseudo split of a split that is not pseudo")
    return found[1] if found else ""


def unseen_classes(corpus: Corpus, split: str) -> np.ndarray:
    """Sorted unseen class ids.

    Args:
      split: a published name such as "55_5"; "random-<seen>_<unseen>-<k>" for the k-th seeded
        random split; or "pseudo-<split>-<k>" for held-out seen classes of that split (as many as
        its unseen classes, but at most a third of the seen ones and at least 2).

    Raises:
      ValueError: unknown split; the message suggests the nearest.
    """
    num_classes = len(corpus.class_names)
    if split in corpus.splits:
        return np.sort(np.array(corpus.splits[split]))
    if found := re.fullmatch(r"random-(\d+)_(\d+)-(\d+)", split):
        num_seen, num_unseen, k = map(int, found.groups())
        if num_seen + num_unseen != num_classes or not num_unseen:
            raise ValueError(
                f"split {split!r}: expected seen + unseen = {num_classes} classes of "
                f"{corpus.name}, got {num_seen} + {num_unseen}"
            )
        return np.sort(np.random.default_rng((k, 11)).permutation(num_classes)[:num_unseen])
    if base := base_split(split):
        real = unseen_classes(corpus, base)
        seen = np.setdiff1d(np.arange(num_classes), real)
        count = max(2, min(len(real), len(seen) // 3))
        rng = np.random.default_rng((int(split.rpartition("-")[2]), 13))
        return np.sort(rng.permutation(seen)[:count])
    patterns = ["random-<seen>_<unseen>-<k>", "pseudo-<split>-<k>"]
    raise unknown(f"split of {corpus.name}", split, [*corpus.splits, *patterns])


def side_of(corpus: Corpus, protocol: str = "") -> np.ndarray:
    """Side of each clip in a protocol, `[N]` of `TRAIN`, `TEST` and `NEITHER`.

    Args:
      protocol: such as "xsub"; empty: the dataset's default.

    Raises:
      ValueError: the dataset has no such protocol; the message has its protocols.
    """
    if protocol and protocol not in corpus.sides:
        raise unknown(f"protocol of {corpus.name}", protocol, corpus.sides)
    return corpus.sides[protocol or next(iter(corpus.sides))]


def make_protocol(corpus: Corpus, split: str, protocol: str = "") -> Protocol:
    """The protocol of a split; deterministic.

    Args:
      split: see `unseen_classes`.
      protocol: see `side_of`.

    Raises:
      ValueError: unknown split (see `unseen_classes`), or too few classes or clips.
    """
    num_classes = len(corpus.class_names)
    unseen = unseen_classes(corpus, split)
    hidden, base = unseen, base_split(split)
    if base:  # the real unseen classes are excluded completely
        hidden = np.union1d(unseen, unseen_classes(corpus, base))
    # A part of a dataset, such as PKU-MMD phase II, may lack clips of some classes.
    seen = np.setdiff1d(np.unique(corpus.labels), hidden)
    side = side_of(corpus, protocol)
    of_seen, of_unseen = np.isin(corpus.labels, seen), np.isin(corpus.labels, unseen)
    pool = np.flatnonzero((side == TRAIN) & of_seen)
    unseen_test = np.flatnonzero((side == (TRAIN if base else TEST)) & of_unseen)
    if not len(pool) or not len(unseen_test):
        raise ValueError(f"split {split!r} has no training clips or no unseen test clips")
    if len(unseen) < 2:
        raise ValueError(
            f"split {split!r}: expected 2 unseen classes or more, got 1: accuracy is always 100 %"
        )
    counts = np.bincount(corpus.labels[pool], minlength=num_classes)[seen]
    if counts.min() < 2:
        name = corpus.class_names[seen[counts.argmin()]]
        raise ValueError(
            f"split {split!r}: expected 2 training clips or more of each seen class (one for "
            f"validation), got {counts.min()} of {name!r}"
        )
    num_val = max(math.ceil(VALIDATION_SHARE * len(pool)), len(seen))
    train, val = train_test_split(
        pool, test_size=num_val, stratify=corpus.labels[pool], random_state=0
    )
    return Protocol(
        split=split,
        seen=seen,
        unseen=unseen,
        train=np.sort(train),
        val=np.sort(val),
        seen_test=np.flatnonzero((side == TEST) & of_seen),
        unseen_test=unseen_test,
    )


def pseudo_split(split: str) -> str:
    """Name of the first pseudo split of a split; used to choose settings and fit gates."""
    return f"pseudo-{split}-0"
