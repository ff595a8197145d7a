"""What a run's page shows: the same predictions as the streams, attention by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynapurls_jax.adaptation import (
    BalancedSettings,
    RefineSettings,
    adapter_of,
    balanced,
    dynapurls,
    run_stream,
    static,
)
from dynapurls_jax.evaluation.inspection import inspect_run, relative
from dynapurls_jax.evaluation.metrics import calibration
from dynapurls_jax.evaluation.streams import predict_streams, stream_key
from tests.helpers.small_model import first, small_model, small_tokens

METHODS = {
    "static": lambda model, variables, _: static(model, variables),
    "balanced": lambda model, variables, _: balanced(model, variables, BalancedSettings(window=8)),
    "dynapurls": lambda model, variables, sample: dynapurls(
        model, variables, sample, RefineSettings(min_samples=3, slots=4)
    ),
}


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
@pytest.mark.parametrize("name", METHODS)
def test_details_are_of_the_stream_that_was_predicted(name, query, chunk):
    model, variables, text = small_model(query)
    stream = model.encode(variables, small_tokens(22, seed=3))
    method = METHODS[name](model, variables, first(stream))
    adapter, order = adapter_of(method), np.random.default_rng(2).permutation(22)
    details = inspect_run(
        *(model, variables, text, stream, method, adapter, order, stream_key(5, 0), chunk)
    )
    expected = predict_streams(adapter, text, stream, [order], 5, chunk)
    np.testing.assert_array_equal(details.adapted.argmax(1)[order], expected.predicted[0])
    np.testing.assert_allclose(details.adapted.max(1)[order], expected.confidence[0], atol=1e-5)
    scored = jax.nn.softmax(model.score(variables, stream, text))
    np.testing.assert_allclose(details.static, scored, atol=1e-5)
    np.testing.assert_allclose(details.texts[0], text.classes[:, 0], atol=1e-6)
    shuffled = jax.tree.map(lambda leaf: leaf[order], stream)
    state, _ = run_stream(adapter, adapter.init(text, key=stream_key(5, 0)), shuffled, chunk=chunk)
    np.testing.assert_allclose(details.texts[-1], method.classes(state)[:, 0], atol=1e-5)
    assert (name == "static") == np.allclose(details.texts[-1], details.texts[0], atol=1e-6)


@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_attention_and_features_are_those_of_the_equations(query):
    model, variables, text = small_model(query)
    stream = model.encode(variables, small_tokens(9, seed=3))
    method = static(model, variables)
    details = inspect_run(
        *(model, variables, text, stream, method, adapter_of(method), np.arange(9)),
        *(stream_key(0, 0), 1),
    )
    for n in range(9):
        asks = text.query if query == "label_free" else text.classes[details.static[n].argmax()]
        asked = asks @ variables["params"]["query_map"]["kernel"]
        scores = asked @ stream.keys[n].T / np.sqrt(asked.shape[-1])
        np.testing.assert_allclose(details.attention[n], jax.nn.softmax(scores), atol=1e-5)
        own = jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], stream)
        row = model.project(variables, own, asks[None, None])[0, 0, 0]
        np.testing.assert_allclose(details.features[n], row, atol=1e-5)
    strength, low, high = relative(details.attention[0])
    count = details.attention.shape[-1]
    spread = (high - low)[:, None] / count
    np.testing.assert_allclose(
        low[:, None] / count + strength * spread, details.attention[0], atol=1e-6
    )


def test_a_stream_of_some_samples_has_details_of_these():
    model, variables, text = small_model()
    stream = model.encode(variables, small_tokens(15, seed=3))
    stream = stream._replace(tokens=stream.tokens.at[4].set(jnp.nan))  # a damaged one
    method, order = static(model, variables), np.array([9, 2, 4, 11, 7])
    details = inspect_run(
        *(model, variables, text, stream, method, adapter_of(method), order),
        *(stream_key(0, 0), 2),
    )
    np.testing.assert_array_equal(details.samples, [2, 4, 7, 9, 11])
    np.testing.assert_array_equal(details.samples[details.order], order)
    kept = jax.tree.map(lambda leaf: leaf[jnp.array([2, 7, 9, 11])], stream)
    expected = jax.nn.softmax(model.score(variables, kept, text))
    for found in (details.static, details.adapted):
        np.testing.assert_allclose(found[[0, 2, 3, 4]], expected, atol=1e-5)
        assert np.isfinite(found).all()


def test_even_attention_is_no_division_by_zero():
    strength, low, high = relative(np.full((8, 4), 0.25, np.float32))
    np.testing.assert_array_equal(strength, 0)
    np.testing.assert_allclose((low, high), 1)


@given(st.data(), st.integers(1, 60), st.integers(1, 12))
def test_calibration_equals_bins_written_out(data, count, bins):
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
    assert calibration(np.ones(3), np.ones(3, bool)).error == 0
    assert jnp.isclose(calibration(np.full(4, 0.9), np.zeros(4, bool)).error, 0.9)
