"""Open-set rejection: the threshold below which a clip shows none of the actions.

A random half of a corpus's classes are the candidates; clips of the other half must be rejected.
The score of a clip is its highest logit without adaptation, by a model that was fitted on other
corpora.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score

REJECTED = 0.1  # false-rejection rate: share of clips of the candidates below the threshold
_DRAWS = 8


class BestLogits(NamedTuple):
    """The highest logits of clips of the candidates (`shown`), and of other clips (`other`)."""

    shown: Float[np.ndarray, " N"]
    other: Float[np.ndarray, " M"]


def draw_actions(
    logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]
) -> list[BestLogits]:
    """Draws random halves of a corpus's classes as candidates, several times.

    Args:
      logits: of all clips and classes, without adaptation.
    """
    rng, classes, found = np.random.default_rng(0), logits.shape[1], []
    for _ in range(_DRAWS):
        actions = rng.permutation(classes)[: (classes + 1) // 2]
        best, shown = logits[:, actions].max(axis=1), np.isin(labels, actions)
        found.append(BestLogits(best[shown], best[~shown]))
    return found


def threshold_of(corpora: Sequence[Sequence[BestLogits]]) -> float:
    """The threshold with the false-rejection rate `REJECTED`, averaged over corpora.

    Args:
      corpora: the draws of each corpus, by a model that was not fitted on it.
    """
    every = np.sort(np.concatenate([best.shown for draws in corpora for best in draws]))

    def rejected(shown: np.ndarray) -> np.ndarray:
        """The share of clips below each threshold in `every`."""
        return np.searchsorted(np.sort(shown), every) / len(shown)

    shares = [np.mean([rejected(best.shown) for best in draws], axis=0) for draws in corpora]
    return float(every[np.searchsorted(np.mean(shares, axis=0), REJECTED, side="right") - 1])


def rates(
    threshold: float, corpora: Sequence[Sequence[BestLogits]]
) -> Float[np.ndarray, "corpora 3"]:
    """False-rejection rate, true-rejection rate and AUROC of each corpus, in [0, 1]."""

    def of(best: BestLogits) -> tuple[float, float, float]:
        truth = np.repeat([1, 0], [len(best.shown), len(best.other)])
        auroc = roc_auc_score(truth, np.concatenate(best))
        return (best.shown < threshold).mean(), (best.other < threshold).mean(), auroc

    return np.array([np.mean([of(best) for best in draws], axis=0) for draws in corpora])
