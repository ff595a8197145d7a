"""Inspections: predictions equal those of the streams, attention equals its definition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.api import adapter_of, run_stream
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.evaluation.inspection import inspect_stream, relative_attention, static_view
from dynapurls_jax.evaluation.streams import StreamInputs, predict_streams
from dynapurls_jax.evaluation.tasks import setup_of
from dynapurls_jax.rng import key_of
from tests.helpers.runs import changed, score_only

COUNT = 24  # three equal parts share one program


def inputs_of(run, count=COUNT):
    """Some clips, with all classes as candidates."""
    classes = np.arange(len(run.inputs.text))
    return StreamInputs(run.features_of(np.arange(count)), run.candidates_of(classes))


@pytest.mark.parametrize(
    ("name", "query", "chunk"),
    [
        ("static", "per_candidate", 1),
        pytest.param("tent", "label_free", 4, marks=pytest.mark.slow),
        pytest.param("balanced", "label_free", 4, marks=pytest.mark.slow),
        pytest.param("dynapurls", "label_free", 1, marks=pytest.mark.slow),
        pytest.param("dynapurls", "per_candidate", 4, marks=pytest.mark.slow),
        pytest.param("balanced", "per_candidate", 1, marks=pytest.mark.slow),
    ],
)
def test_an_inspection_has_the_predictions_of_the_stream(trained, name, query, chunk):
    run = changed(trained[1], {"method.purls.query": query, "adapter.name": name})
    inputs, setup = inputs_of(run), setup_of(run)
    method = setup.method(run.variables, inputs.features, COUNT)
    adapter, order = setup.adapter(method), np.random.default_rng(2).permutation(COUNT)
    inspection = inspect_stream(run, inputs, method, adapter, order, chunk)
    expected = predict_streams(adapter, inputs, [order], run.seed, chunk)
    np.testing.assert_array_equal(inspection.adapted.argmax(1)[order], expected.predicted[0])
    np.testing.assert_allclose(inspection.adapted.max(1)[order], expected.confidence[0], atol=1e-5)
    logits = run.method.score(run.variables, inputs.features, inputs.candidates)
    np.testing.assert_allclose(inspection.static, jax.nn.softmax(logits), atol=1e-5)
    vectors, classes = inspection.class_vectors, inputs.candidates.classes
    np.testing.assert_allclose(vectors[0], classes[:, 0], atol=1e-6)
    state = adapter.init(inputs.candidates, key=key_of(run.seed, "stream", 0))
    for part in np.split(order, 3):
        shuffled = jax.tree.map(lambda leaf, part=part: leaf[part], inputs.features)
        state, _ = run_stream(adapter, state, shuffled, chunk=chunk)
    np.testing.assert_allclose(vectors[-1], method.classes(state)[:, 0], atol=1e-5)
    assert (name == "static") == np.allclose(vectors[-1], vectors[0], atol=1e-6)


@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_attention_and_features_equal_the_equations(trained, query):
    run = changed(trained[1], {"method.purls.query": query})
    inputs = inputs_of(run, 5)
    view = static_view(run.method, run.variables, inputs.features, inputs.candidates)
    params = run.variables["params"]
    partition = params["partition"]
    for n, predicted in enumerate(view.logits.argmax(axis=-1)):
        text = run.variables["query"]
        if query == "per_candidate":
            text = inputs.candidates.classes[predicted]
        queries = text @ partition["query_map"]["kernel"]
        scores = queries @ inputs.features.keys[n].T / np.sqrt(queries.shape[-1])
        attention = jax.nn.softmax(scores)
        np.testing.assert_allclose(view.attention[n], attention, atol=1e-5)
        hidden = attention[0] @ inputs.features.tokens[n] @ params["project"]["Dense_0"]["kernel"]
        out = jax.nn.relu(hidden + params["project"]["Dense_0"].get("bias", 0))
        out = out @ params["project"]["Dense_1"]["kernel"] + params["project"]["Dense_1"]["bias"]
        np.testing.assert_allclose(view.features[n], out / np.linalg.norm(out), atol=1e-5)


def test_relative_attention_has_its_range_as_multiples_of_uniform_attention():
    attention = np.random.default_rng(0).dirichlet(np.ones(60), 8)
    strength, low, high = relative_attention(attention)
    spread = (high - low)[:, None] / 60
    np.testing.assert_allclose(low[:, None] / 60 + strength * spread, attention, atol=1e-6)
    strength, low, high = relative_attention(np.full((8, 4), 0.25, np.float32))
    np.testing.assert_array_equal(strength, 0)  # no division by zero for uniform attention
    np.testing.assert_allclose((low, high), 1)


def test_an_inspection_has_only_the_samples_of_the_stream(trained):
    _, run = trained
    inputs = inputs_of(run, 15)
    damaged = inputs.features._replace(tokens=inputs.features.tokens.at[4].set(jnp.nan))
    method, order = static(run.method, run.variables), np.array([9, 2, 4, 11, 7])
    with_damage = inputs._replace(features=damaged)
    inspection = inspect_stream(run, with_damage, method, adapter_of(method), order, 2)
    np.testing.assert_array_equal(inspection.samples, [2, 4, 7, 9, 11])
    np.testing.assert_array_equal(inspection.samples[inspection.order], order)
    whole = jax.tree.map(lambda leaf: leaf[jnp.array([2, 7, 9, 11])], inputs.features)
    expected = jax.nn.softmax(run.method.score(run.variables, whole, inputs.candidates))
    for found in (inspection.static, inspection.adapted):
        np.testing.assert_allclose(found[[0, 2, 3, 4]], expected, atol=1e-5)
        assert np.isfinite(found).all()


def test_a_method_without_embedding_has_neither_attention_nor_vectors(trained):
    run = score_only(trained[1])
    inputs, method = inputs_of(run, 6), static(run.method, run.variables)
    inspection = inspect_stream(run, inputs, method, adapter_of(method), np.arange(6), 1)
    assert inspection.attention is None
    assert inspection.features is None
    assert inspection.class_vectors is None
    np.testing.assert_allclose(inspection.static, inspection.adapted, atol=1e-5)


def test_attention_to_cells_is_not_drawn_on_joints(trained):
    segments, joints, width = trained[1].token_shape
    run = dataclasses.replace(trained[1], token_shape=(2 * segments, joints // 2, width))
    inputs, method = inputs_of(run, 6), static(run.method, run.variables)
    inspection = inspect_stream(run, inputs, method, adapter_of(method), np.arange(6), 1)
    assert inspection.attention is None
    assert inspection.features is not None
