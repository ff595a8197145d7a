"""Accuracy, from predictions that are already made. The only place that compares with labels."""

import numpy as np
from jaxtyping import Float, Int


def accuracy(predicted: Int[np.ndarray, "*N"], labels: Int[np.ndarray, "*N"]) -> float:
    """Share of hits, in [0, 1]."""
    return float(np.mean(predicted == labels))


def per_class_accuracy(
    predicted: Int[np.ndarray, "*N"], labels: Int[np.ndarray, "*N"], classes: int
) -> Float[np.ndarray, " C"]:
    """Share of hits among each class's samples; NaN for a class without any."""
    hits = np.bincount(labels.ravel(), (predicted == labels).ravel(), minlength=classes)
    counts = np.bincount(labels.ravel(), minlength=classes)
    return np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)


def running_accuracy(
    predicted: Int[np.ndarray, "*orders N"], labels: Int[np.ndarray, "*orders N"]
) -> Float[np.ndarray, "*orders N"]:
    """Accuracy over the stream so far, after each sample."""
    hits = np.cumsum(predicted == labels, axis=-1)
    return hits / np.arange(1, predicted.shape[-1] + 1)


def mean_std(values) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
