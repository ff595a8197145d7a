"""The recognition of a clip: actions and their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float

from dynapurls_jax.adaptation.api import Prediction

# Predictions, and the highest static logit of each sample.
Found = tuple[Prediction, Float[Array | np.ndarray, " B"]]


@dataclass(frozen=True)
class Recognition:
    """The recognition of a clip.

    Attributes:
      labels: the actions, the most probable first; empty if skipped.
      probabilities: probabilities of `labels`; their sum is 1.
      none_of_these: whether the clip shows none of the actions, see `Model.none_below`; None if
        the model has no threshold.
      adapted: whether the model was adapted to the clip.
      skipped: whether the clip is not finite; it then has no effect.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, " C"]
    none_of_these: bool | None = None
    adapted: bool = False
    skipped: bool = False

    @property
    def label(self) -> str:
        """The most probable action."""
        return self.labels[0]


def recognitions(
    found: Found, names: Sequence[str | None], none_below: float | None
) -> list[Recognition]:
    """Converts predictions to recognitions.

    Args:
      found: predictions and highest static logits, on the host.
      names: action of each slot; None for a free slot.
      none_below: see `Model.none_below`.
    """
    prediction, best = found
    none: list[bool | None] = [None] * len(best)
    if none_below is not None:
        none = [bool(logit < none_below) for logit in best]
    return [_recognition(prediction, row, names, none[row]) for row in range(len(best))]


def _recognition(
    prediction: Prediction, row: int, names: Sequence[str | None], none_of_these: bool | None
) -> Recognition:
    if prediction.skipped[row]:
        return Recognition((), np.zeros(0, np.float32), skipped=True)
    logits = np.asarray(prediction.logits[row])
    share = np.exp(logits - logits.max())
    share /= share.sum()
    order = [slot for slot in np.argsort(-share, kind="stable") if names[slot] is not None]
    return Recognition(
        labels=tuple(str(names[slot]) for slot in order),
        probabilities=share[order],
        none_of_these=none_of_these,
        adapted=bool(prediction.adapted[row]),
    )
