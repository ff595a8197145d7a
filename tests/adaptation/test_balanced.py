"""Balanced assignments and prototypes against plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.class_slots import add_class, retire_class, with_capacity
from dynapurls_jax.adaptation.sinkhorn import balanced_assignment, estimated_prior
from tests.helpers.cases import cases
from tests.helpers.small_model import part, small_model, small_tokens

COUNT = 24
BASE = {"window": 32, "temperature": 0.2, "sinkhorn_iterations": 3}


@given(st.sampled_from([(2, 4), (6, 3)]), st.integers(0, 10_000))
def test_rows_sum_to_their_weight_and_class_proportions_equal_the_prior(shape, seed):
    rng, (samples, classes) = np.random.default_rng(seed), shape
    logits = jnp.asarray(rng.normal(size=(samples, classes)), jnp.float32)
    weight = jnp.asarray(rng.integers(0, 2, samples) + (np.arange(samples) == 0), jnp.float32)
    prior = rng.dirichlet(np.ones(classes) * 5).astype(np.float32)
    share = balanced_assignment(logits, weight, jnp.asarray(prior), 60)
    np.testing.assert_allclose(share.sum(axis=1), weight, atol=1e-5)
    np.testing.assert_allclose(share.sum(axis=0), prior * float(weight.sum()), atol=2e-2)
    unbalanced = balanced_assignment(logits, weight, jnp.asarray(prior), 0)
    np.testing.assert_allclose(unbalanced, weight[:, None] * softmax(logits, axis=1), atol=1e-6)


def test_the_estimated_prior_equals_unbalanced_class_proportions():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 400, p=[0.7, 0.2, 0.1])
    logits = jnp.asarray(2.5 * np.eye(4)[labels] + rng.normal(size=(400, 4)), jnp.float32)
    active = jnp.array([True, True, True, False])
    logits = jnp.where(active, logits, -jnp.inf)
    prior = estimated_prior(logits, jnp.ones(400), active, 1.0)
    np.testing.assert_allclose(prior, [0.7, 0.2, 0.1, 0], atol=0.05)
    nothing = estimated_prior(logits, jnp.zeros(400), active, 1.0)
    np.testing.assert_allclose(nothing, [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)


class PlainBalanced:
    """The method in NumPy, chunk by chunk, with growing arrays."""

    def __init__(self, small, features, settings, prior=None):
        model, variables, candidates = small
        e, self.settings = model.embedding, settings
        embedded = e.embed(variables, features, candidates)
        scale = float(e.scale(variables))
        every = np.asarray(e.match_all(variables, embedded, candidates.classes))
        scored = np.asarray(e.match(variables, embedded, candidates.classes))
        weight = settings.all_granularities
        self.evidence = ((1 - weight) * scored + weight * every) / scale
        self.static = np.asarray(e.scored(candidates).classes)
        count, granularities = self.static.shape[:2]
        vectors = np.asarray(embedded, np.float64)[:, :, :granularities]
        self.vectors = np.broadcast_to(vectors, (len(vectors), count, *vectors.shape[2:]))
        alpha = variables["params"]["alpha"] if granularities > 1 else np.zeros(1)
        self.alpha = softmax(np.asarray(alpha))
        self.prior = None if prior is None else np.asarray(prior)

    def cosines(self, samples, classes):
        return np.einsum("wcrd,crd,r->wc", self.vectors[samples], classes, self.alpha)

    def assignment(self, evidence):
        s = self.settings
        prior = self.expected_shares(evidence) if self.prior is None else self.prior
        share = softmax(evidence / s.temperature, axis=1)
        bias = np.zeros(len(self.static))
        for _ in range(s.sinkhorn_iterations):
            lacking = np.log(len(evidence) * prior) - np.log(share.sum(axis=0) + 1e-6)
            bias = bias + lacking
            share = softmax(evidence / s.temperature + bias, axis=1)
        return share

    def expected_shares(self, evidence):
        """Class proportions by expectation maximisation, with pseudo-counts."""
        samples, count = evidence.shape
        estimate = np.ones(count) / count
        for _ in range(5):
            share = softmax(evidence / self.settings.temperature + np.log(estimate), axis=1)
            more = self.settings.share_count
            estimate = (share.sum(axis=0) + more) / (samples + more * count)
        return estimate

    def class_vectors(self, window):
        share = self.assignment(self.evidence[window])
        total = np.einsum("wc,wcrd->crd", share, self.vectors[window])
        means = total / (share.sum(axis=0)[:, None, None] + self.settings.prior_count)
        vectors = self.static + self.settings.gain * means
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def run(self, chunk):
        """Predictions and the last class vectors."""
        classes, predicted, count = self.static, [], len(self.vectors)
        for start in range(0, count, chunk):
            end = min(start + chunk, count)
            predicted += self.cosines(np.arange(start, end), classes).argmax(axis=1).tolist()
            classes = self.class_vectors(np.arange(max(0, end - self.settings.window), end))
        return predicted, classes


SHORT = {"window": 7, "share_count": 0.5}
LONG = {"window": 10, "prior_count": 3.0}
CASES = cases(
    [
        ("label_free", "global", 1, {}),
        ("per_candidate", "weighted", 5, LONG),
        ("ridge", "", 4, SHORT),
    ],
    [
        (kind, score, chunk, changes)
        for kind in ("label_free", "per_candidate")
        for score in ("global", "weighted")
        for chunk, changes in [(1, {}), (5, LONG), (1, SHORT)]
    ],
)


@pytest.mark.parametrize(("kind", "score", "chunk", "changes"), CASES)
def test_scan_equals_plain_numpy(kind, score, chunk, changes):
    small = model, variables, candidates = small_model(kind, score)
    chosen = BalancedSettings(**(BASE | changes))
    features = model.encode(variables, small_tokens(COUNT, seed=3))
    adapter = adapter_of(balanced(model, variables, chosen, StreamInfo.of(features)))
    state, prediction = run_stream(adapter, adapter.init(candidates), features, chunk=chunk)
    predicted, vectors = PlainBalanced(small, features, chosen).run(chunk)
    np.testing.assert_array_equal(prediction.label, predicted)
    np.testing.assert_allclose(state.inner_state.classes, vectors, atol=2e-4)


def test_a_known_prior_replaces_the_estimated_one():
    small = model, variables, candidates = small_model()
    chosen = BalancedSettings(**BASE)
    features = model.encode(variables, small_tokens(COUNT, seed=3))
    prior = jnp.array([0.7, 0.1, 0.1, 0.1])
    info = StreamInfo.of(features)
    adapter = adapter_of(balanced(model, variables, chosen, info, known_prior=prior))
    state, _ = run_stream(adapter, adapter.init(candidates), features, chunk=12)
    _, vectors = PlainBalanced(small, features, chosen, prior).run(12)
    np.testing.assert_allclose(state.inner_state.classes, vectors, atol=2e-4)


def test_samples_before_a_class_was_added_cannot_belong_to_it():
    model, variables, candidates = small_model("per_candidate")
    features = model.encode(variables, small_tokens(COUNT))
    info = StreamInfo.of(features)
    adapter = adapter_of(balanced(model, variables, BalancedSettings(**BASE), info))
    larger, active = with_capacity(candidates, 5)
    state, _ = run_stream(adapter, adapter.init(larger, active), part(features, 12))
    state, slot = add_class(adapter, state, candidates.classes[0])
    assert (np.asarray(state.inner_state.evidence)[:12, slot] == -np.inf).all()
    for old in range(4):  # the remaining class is newer than all samples in the window
        state = retire_class(adapter, state, old)
    state, prediction = run_stream(adapter, state, part(features, 12, None))
    assert (np.asarray(prediction.label) == slot).all()
    assert np.isfinite(state.inner_state.classes).all()
