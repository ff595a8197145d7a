"""When a clip shows none of the actions: a threshold from corpora that a model was not fitted on.

Half of a corpus's classes, drawn at random, are the actions; clips of the other half show none of
them. The best static logit of a clip decides.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score

REJECTED = 0.1  # share of clips of the actions that may be taken for none of them
_DRAWS = 8


class Fits(NamedTuple):
    """The best logits of clips of the actions, and of other clips."""

    shown: Float[np.ndarray, " N"]
    other: Float[np.ndarray, " M"]


def draw_actions(logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]) -> list[Fits]:
    """Random halves of a corpus's classes as actions, several times.

    Args:
      logits: of all clips and classes, without adaptation.
    """
    rng, classes, found = np.random.default_rng(0), logits.shape[1], []
    for _ in range(_DRAWS):
        actions = rng.permutation(classes)[: (classes + 1) // 2]
        best, shown = logits[:, actions].max(axis=1), np.isin(labels, actions)
        found.append(Fits(best[shown], best[~shown]))
    return found


def threshold_of(corpora: Sequence[Sequence[Fits]]) -> float:
    """The best logit below which a clip shows none: it rejects `REJECTED`, in the mean of corpora.

    Args:
      corpora: the draws of each, by a model that was not fitted on it.
    """
    every = np.sort(np.concatenate([fits.shown for draws in corpora for fits in draws]))

    def rejected(shown: np.ndarray) -> np.ndarray:
        """The share of clips below each of `every`."""
        return np.searchsorted(np.sort(shown), every) / len(shown)

    shares = [np.mean([rejected(fits.shown) for fits in draws], axis=0) for draws in corpora]
    return float(every[np.searchsorted(np.mean(shares, axis=0), REJECTED, side="right") - 1])


def rates(threshold: float, corpora: Sequence[Sequence[Fits]]) -> Float[np.ndarray, "corpora 3"]:
    """Of each corpus: share of clips of the actions rejected, of others found, and the AUROC."""

    def of(fits: Fits) -> tuple[float, float, float]:
        truth = np.repeat([1, 0], [len(fits.shown), len(fits.other)])
        order = roc_auc_score(truth, np.concatenate(fits))
        return (fits.shown < threshold).mean(), (fits.other < threshold).mean(), order

    return np.array([np.mean([of(fits) for fits in draws], axis=0) for draws in corpora])
