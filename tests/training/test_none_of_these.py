"""Open-set rejection: the threshold below which a clip shows none of the actions."""

import numpy as np
import pytest

from dynapurls_jax.training.none_of_these import REJECTED, draw_actions, rates, threshold_of


def corpus(seed, clips=400, classes=8, signal=3.0):
    """Logits of random clips; that of the true class is higher by `signal`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, clips)
    logits = rng.normal(size=(clips, classes))
    logits[np.arange(clips), labels] += signal
    return logits, labels


def test_clips_of_other_classes_have_lower_best_logits():
    logits, labels = corpus(0)
    for best in draw_actions(logits, labels):
        assert len(best.shown) + len(best.other) == len(labels)
        assert 0.3 < len(best.shown) / len(labels) < 0.7
        assert np.median(best.shown) > np.median(best.other) + 1


def test_the_threshold_has_the_requested_false_rejection_rate_averaged_over_corpora():
    corpora = [draw_actions(*corpus(seed, signal=2.0 + seed)) for seed in range(3)]
    threshold = threshold_of(corpora)
    rejected, found, auroc = rates(threshold, corpora).T
    assert rejected.mean() <= REJECTED
    assert rejected.mean() == pytest.approx(REJECTED, abs=0.01)
    assert rejected[0] > rejected[2]
    assert (found > rejected).all()
    assert (np.diff(auroc) > 0).all()
    assert threshold_of(corpora[:1]) < threshold_of(corpora[2:])
