"""Centring by the mean of the stream: against plain NumPy, and with a shift of the sensor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.recentred import RecentredSettings, recentred
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.zero_shot.base import Candidates, ZeroShotMethod, score_by, vector_embedding
from tests.helpers.cases import cases
from tests.helpers.small_model import small_model, small_tokens

COUNT = 24


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def plain(vectors, classes, s, chunk):
    """Predictions and last class vectors of one granularity: `[N, e]`, `[C, e]`."""
    fixed = unit(classes - classes.mean(axis=0))
    moved, predicted, count = fixed, [], len(vectors)
    for start in range(0, count, chunk):
        end = min(start + chunk, count)
        for n in range(start, end):
            mean = vectors[: n + 1].sum(axis=0) / (s.mean_count + n + 1)
            predicted.append(int((unit(vectors[n] - mean) @ moved.T).argmax()))
        mean = vectors[:end].sum(axis=0) / (s.mean_count + end)
        window = unit(vectors[max(0, end - s.window) : end] - mean)
        logits = window @ fixed.T / s.temperature
        prior = np.ones(len(fixed)) / len(fixed)
        for _ in range(5):
            share = softmax(logits + np.log(prior), axis=1)
            more = s.share_count
            prior = (share.sum(axis=0) + more) / (len(window) + more * len(fixed))
        bias = np.zeros(len(fixed))
        for _ in range(s.sinkhorn_iterations):
            share = softmax(logits + bias, axis=1)
            bias += np.log(len(window) * prior) - np.log(share.sum(axis=0) + 1e-6)
        share = softmax(logits + bias, axis=1)
        means = share.T @ window / (share.sum(axis=0)[:, None] + s.prior_count)
        moved = unit(fixed + s.gain * means)
    return predicted, moved


SHORT = {"window": 7, "share_count": 0.5, "mean_count": 1.0}
CASES = cases(
    [("ridge", 4, SHORT)],
    [
        (kind, *rest)
        for kind in ("ridge", "label_free")
        for rest in [(1, {}), (1, SHORT), (5, SHORT)]
    ],
)


@pytest.mark.parametrize(("kind", "chunk", "changes"), CASES)
def test_scan_equals_plain_numpy(kind, chunk, changes):
    model, variables, candidates = small_model(kind, "global")
    settings = RecentredSettings(**({"window": 32, "temperature": 0.2} | changes))
    features = model.encode(variables, small_tokens(COUNT, seed=3))
    method = recentred(model, variables, settings, StreamInfo.of(features))
    adapter = adapter_of(method)
    state, prediction = run_stream(adapter, adapter.init(candidates), features, chunk=chunk)
    e = model.embedding
    scored = e.scored(candidates)
    vectors = np.asarray(e.embed(variables, features, scored), np.float64)[:, 0, 0]
    predicted, moved = plain(vectors, np.asarray(scored.classes)[:, 0], settings, chunk)
    np.testing.assert_array_equal(prediction.label, predicted)
    np.testing.assert_allclose(method.classes(state)[:, 0], moved, atol=2e-4)


def test_a_common_shift_of_all_samples_has_no_effect():
    """Another sensor adds one vector to all features: `static` fails, `recentred` does not."""
    rng = np.random.default_rng(0)
    classes = unit(rng.normal(size=(5, 16)))
    labels = rng.integers(5, size=200)
    shifted = classes[labels] + 0.1 * rng.normal(size=(200, 16)) + 3 * classes[0]
    features = jnp.asarray(unit(shifted), jnp.float32)
    embedding = vector_embedding(lambda variables, features, _: features[:, None, None], 10.0)
    model = ZeroShotMethod(lambda v, x: x, lambda v, t: t, score_by(embedding), embedding=embedding)
    candidates = Candidates(jnp.asarray(classes, jnp.float32)[:, None])
    shares = []
    for method in (
        static(model, {}),
        recentred(model, {}, RecentredSettings(), StreamInfo.of(features)),
    ):
        adapter = adapter_of(method)
        _, prediction = run_stream(adapter, adapter.init(candidates), features)
        shares.append(float(np.mean(np.asarray(prediction.label)[50:] == labels[50:])))
    assert shares[0] < 0.6
    assert shares[1] > 0.95


def test_one_class_and_no_sample_are_finite():
    model, variables, candidates = small_model("ridge", "")
    features = model.encode(variables, small_tokens(3))
    adapter = adapter_of(recentred(model, variables, RecentredSettings(), StreamInfo.of(features)))
    alone = jnp.arange(len(candidates.classes)) == 1
    state, prediction = run_stream(adapter, adapter.init(candidates, alone), features)
    assert prediction.label.tolist() == [1, 1, 1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.inner_state))
