"""Balanced assignments and prototypes against plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from dynapurls_jax.adaptation import (
    BalancedSettings,
    adapter_of,
    add_class,
    balanced,
    retire_class,
    run_stream,
    with_capacity,
)
from dynapurls_jax.adaptation.sinkhorn import balanced_assignment, estimated_prior, uniform_prior
from tests.helpers.small_model import part, small_model, small_text, small_tokens

finite = st.floats(-5, 5, width=32)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(2, 4), st.integers(0, 10_000))
def test_rows_sum_to_their_weight_and_shares_become_the_prior(samples, classes, seed):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(samples, classes)), jnp.float32)
    weight = jnp.asarray(rng.integers(0, 2, samples) + (np.arange(samples) == 0), jnp.float32)
    prior = rng.dirichlet(np.ones(classes) * 5).astype(np.float32)
    share = balanced_assignment(logits, weight, jnp.asarray(prior), 500)
    np.testing.assert_allclose(share.sum(axis=1), weight, atol=1e-5)
    np.testing.assert_allclose(share.sum(axis=0), prior * float(weight.sum()), atol=2e-2)
    plain = balanced_assignment(logits, weight, jnp.asarray(prior), 0)
    np.testing.assert_allclose(plain, weight[:, None] * softmax(logits, axis=1), atol=1e-6)


def test_a_cap_keeps_a_class_empty_that_did_not_come():
    logits = jnp.tile(jnp.array([[4.0, 0.0]]), (20, 1))  # everything looks like class 0
    even, weight = jnp.array([0.5, 0.5]), jnp.ones(20)
    forced = balanced_assignment(logits, weight, even, 50).sum(axis=0)
    capped = balanced_assignment(logits, weight, even, 50, cap=1.0).sum(axis=0)
    np.testing.assert_allclose(forced, [10, 10], rtol=1e-3)
    np.testing.assert_allclose(capped, 20 * softmax([4 - 1.0, 0 + 1.0]), rtol=1e-3)


def test_the_estimated_prior_finds_a_skewed_stream():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 400, p=[0.7, 0.2, 0.1])
    logits = jnp.asarray(3 * np.eye(3)[labels] + rng.normal(size=(400, 3)), jnp.float32)
    active = jnp.ones(3, bool)
    found = estimated_prior(logits, jnp.ones(400), active, 1.0)
    np.testing.assert_allclose(found, [0.7, 0.2, 0.1], atol=0.06)
    no_one = estimated_prior(logits, jnp.zeros(400), active, 1.0)
    np.testing.assert_allclose(no_one, uniform_prior(active), atol=1e-6)


def plain(model, variables, text, visual, s: BalancedSettings, chunk):
    """The method, sample after sample, with growing lists; returns predictions and last vectors."""
    static = np.asarray(text.classes)
    rows = np.asarray(model.project(variables, visual, model.queries(text)), np.float64)
    scale = float(model.scale(variables))
    every = np.asarray(model.match_all(variables, jnp.asarray(rows, jnp.float32), text.classes))
    scored = np.asarray(model.match(variables, jnp.asarray(rows, jnp.float32), text.classes))
    evidence = ((1 - s.all_rows) * scored + s.all_rows * every) / scale
    reads = 1 if model.rows == 1 else rows.shape[2]
    alpha = np.asarray(variables["params"]["alpha"])
    alpha = np.ones(1) if reads == 1 else softmax(alpha)
    rows, static = rows[:, :, :reads], static[:, :reads]
    rows = np.broadcast_to(rows, (len(rows), len(static), *rows.shape[2:]))  # [N, C, R, d]
    vectors, predicted = static, []

    def like(held, classes):
        return np.einsum("wcrd,crd,r->wc", rows[held], classes, alpha)

    def assign(scores):
        share = softmax(scores / s.temperature, axis=1)
        bias = np.zeros(len(static))
        for _ in range(s.rounds):
            wanted = np.log(len(scores) / len(static)) - np.log(share.sum(axis=0) + 1e-6)
            bias = np.clip(bias + wanted, -s.cap, s.cap)
            share = softmax(scores / s.temperature + bias, axis=1)
        return share

    for start in range(0, len(rows), chunk):
        now = np.arange(start, min(start + chunk, len(rows)))
        predicted += like(now, vectors).argmax(axis=1).tolist()
        held = np.arange(max(0, now[-1] + 1 - s.window), now[-1] + 1)
        bonus = 0.0
        for _ in range(s.passes):
            share = assign(evidence[held] + s.affinity * bonus)
            total = np.einsum("wc,wcrd->crd", share, rows[held])
            means = total / (share.sum(axis=0)[:, None, None] + s.trust)
            bonus = like(held, means)
        vectors = static + s.gain * means
        vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return predicted, vectors


@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
@pytest.mark.parametrize("score", ["global", "weighted"])
@pytest.mark.parametrize(
    ("chunk", "changes"),
    [(1, {}), (4, {"window": 10, "passes": 3}), (1, {"window": 7, "passes": 1, "cap": 0.3})],
)
def test_scan_equals_plain_numpy(query, score, chunk, changes):
    model, variables, text = small_model(query, score)
    chosen = BalancedSettings(**({"window": 32, "temperature": 0.2} | changes))
    visual = model.encode(variables, small_tokens(25, seed=3))
    adapter = adapter_of(balanced(model, variables, chosen))
    state, prediction = run_stream(adapter, adapter.init(text), visual, chunk=chunk)
    predicted, vectors = plain(model, variables, text, visual, chosen, chunk)
    np.testing.assert_array_equal(prediction.label, predicted)
    np.testing.assert_allclose(state.own.classes, vectors, atol=2e-4)


def test_samples_before_a_class_came_cannot_belong_to_it():
    model, variables, text = small_model("per_candidate")
    visual = model.encode(variables, small_tokens(24))
    adapter = adapter_of(balanced(model, variables, BalancedSettings(window=32)))
    roomy, active = with_capacity(text, 5)
    state, _ = run_stream(adapter, adapter.init(roomy, active), part(visual, 12))
    state, slot = add_class(adapter, state, small_text(1, seed=9).classes[0])
    assert (np.asarray(state.own.evidence)[:12, slot] == -np.inf).all()
    for old in range(4):  # only classes are left that no remembered sample can belong to
        state = retire_class(adapter, state, old)
    state, prediction = run_stream(adapter, state, part(visual, 12, None))
    assert (np.asarray(prediction.label) == slot).all()
    assert np.isfinite(state.own.classes).all()
