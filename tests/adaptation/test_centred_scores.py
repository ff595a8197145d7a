"""Centred logits: against plain NumPy, with hubs, and for methods without vectors."""

import jax.numpy as jnp
import numpy as np

from dynapurls_jax.adaptation.api import adapter_of, run_stream
from dynapurls_jax.adaptation.centred_scores import CentredScoresSettings, centred_scores
from dynapurls_jax.zero_shot.base import Candidates, ZeroShotMethod

COUNT, CLASSES = 40, 4


def of_logits() -> ZeroShotMethod:
    """A method without an embedding, whose features are its logits."""
    return ZeroShotMethod(
        encode=lambda variables, tokens: tokens,
        bind=lambda variables, text: Candidates(text),
        score=lambda variables, features, candidates: features + candidates.classes[:, 0, 0],
    )


def adapted(logits, chunk, active=None, mean_count=3.0):
    """Logits along a stream."""
    method = centred_scores(of_logits(), {}, CentredScoresSettings(mean_count))
    adapter = adapter_of(method)
    state = adapter.init(Candidates(jnp.zeros((CLASSES, 1, 1))), active)
    features = jnp.asarray(logits, jnp.float32)
    return np.asarray(run_stream(adapter, state, features, chunk=chunk)[1].logits)


def test_logits_are_centred_by_the_samples_before():
    logits = np.random.default_rng(0).normal(size=(COUNT, CLASSES))
    found, expected, total, seen = adapted(logits, 8), [], np.zeros(CLASSES), 0
    for start in range(0, COUNT, 8):
        mean = total / (3.0 + seen)
        chunk = logits[start : start + 8]
        expected.append(chunk - (mean - mean.mean()))
        total, seen = total + chunk.sum(axis=0), seen + len(chunk)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_a_class_that_attracts_all_clips_is_corrected():
    rng = np.random.default_rng(1)
    labels = rng.integers(CLASSES, size=400)
    logits = np.eye(CLASSES)[labels] + rng.normal(size=(400, CLASSES)) / 5 + [3, 0, 0, 0]
    assert (logits.argmax(axis=1) == labels).mean() < 0.3
    found = adapted(logits, 1)
    assert (found.argmax(axis=1) == labels)[100:].mean() > 0.9


def test_inactive_slots_have_no_effect():
    logits = np.random.default_rng(2).normal(size=(COUNT, CLASSES))
    other = logits.copy()
    other[:, 3] = 50.0
    active = jnp.array([True, True, True, False])
    one, two = (adapted(values, 4, active)[:, :3] for values in (logits, other))
    np.testing.assert_array_equal(one, two)
