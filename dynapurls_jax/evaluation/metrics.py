"""Accuracy and calibration of finished predictions; only this module compares with labels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.metrics import recall_score


def accuracy(predicted: Int[np.ndarray, "*N"], labels: Int[np.ndarray, "*N"]) -> float:
    """Top-1 accuracy in [0, 1]."""
    return float(np.mean(predicted == labels))


def per_class_accuracy(
    predicted: Int[np.ndarray, "*N"], labels: Int[np.ndarray, "*N"], classes: int
) -> Float[np.ndarray, " C"]:
    """Accuracy of each class in [0, 1]; NaN for a class without samples."""
    every = range(classes)
    pair = labels.ravel(), predicted.ravel()
    return recall_score(*pair, labels=every, average=None, zero_division=np.nan)


def running_accuracy(
    predicted: Int[np.ndarray, "*orders N"], labels: Int[np.ndarray, "*orders N"]
) -> Float[np.ndarray, "*orders N"]:
    """Accuracy in [0, 1] over the stream so far, after each sample."""
    hits = np.cumsum(predicted == labels, axis=-1)
    return hits / np.arange(1, predicted.shape[-1] + 1)


def mean_std(values) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0


class Calibration(NamedTuple):
    """Calibration in bins of equal width (Guo et al., ICML 2017).

    Attributes:
      confidence, accuracy: mean of each bin; NaN for an empty bin.
      share: share of the predictions in each bin.
      error: the expected calibration error (ECE), in [0, 1].
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    share: Float[np.ndarray, " bins"]
    error: float


def calibration(
    confidence: Float[np.ndarray, " N"], hits: Bool[np.ndarray, " N"], bins: int = 10
) -> Calibration:
    """Calibration of predictions.

    Args:
      confidence: probability of the predicted class, in [0, 1].
      hits: whether the prediction is right.
      bins: number of bins; a bin contains its upper edge.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    empty, some = np.full(bins, np.nan), count > 0
    means = [
        np.divide(np.bincount(place, values, bins), count, out=empty.copy(), where=some)
        for values in (confidence, hits)
    ]
    share = count / len(place)
    gap = np.nan_to_num(np.abs(means[0] - means[1]))
    return Calibration(means[0], means[1], share, float(np.sum(share * gap)))
