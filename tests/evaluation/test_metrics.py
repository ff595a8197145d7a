"""Accuracy and calibration equal their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynapurls_jax.evaluation.metrics import (
    calibration,
    mean_std,
    per_class_accuracy,
    running_accuracy,
)


def test_accuracies_equal_values_by_hand():
    predicted, labels = np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 2]])
    np.testing.assert_allclose(running_accuracy(predicted, labels), [[1, 1, 2 / 3, 3 / 4]])
    np.testing.assert_allclose(per_class_accuracy(predicted, labels, 4), [1, 1, 0.5, np.nan])
    assert mean_std([1, 3]) == (2, pytest.approx(2**0.5))
    assert mean_std([0.5]) == (0.5, 0)


@given(st.data(), st.integers(1, 60), st.integers(1, 12))
def test_calibration_equals_a_loop_over_bins(data, count, bins):
    shares = st.floats(0, 1, width=32)
    confidence = data.draw(hnp.arrays(np.float64, count, elements=shares))
    hits = data.draw(hnp.arrays(bool, count))
    found = calibration(confidence, hits, bins)
    error = 0.0
    for b in range(bins):
        inside = [n for n in range(count) if max(0, np.ceil(confidence[n] * bins) - 1) == b]
        assert found.share[b] == pytest.approx(len(inside) / count)
        if inside:
            mean, right = np.mean(confidence[inside]), np.mean(hits[inside])
            assert found.confidence[b] == pytest.approx(mean)
            assert found.accuracy[b] == pytest.approx(right)
            error += len(inside) / count * abs(mean - right)
        else:
            assert np.isnan(found.accuracy[b])
    assert found.error == pytest.approx(error)


def test_calibration_of_certain_predictions():
    assert calibration(np.ones(3), np.ones(3, bool)).error == 0
    assert calibration(np.full(4, 0.9), np.zeros(4, bool)).error == pytest.approx(0.9)
