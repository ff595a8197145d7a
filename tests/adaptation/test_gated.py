"""The gate of generalised recognition: its scores, and its two sides."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynapurls_jax.adaptation.api import adapter_of, run_stream
from dynapurls_jax.adaptation.class_slots import retire_class
from dynapurls_jax.adaptation.gated import Gate, gate_score, gated, is_unseen
from dynapurls_jax.adaptation.logistic_gate import logistic_inputs
from dynapurls_jax.adaptation.registry import GATES
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.adaptation.tent import TentSettings, tent
from dynapurls_jax.evaluation.gzsl import table_9
from tests.helpers.small_model import small_model, small_tokens

SEEN = jnp.array([True, True, False, False])
TENT = TentSettings(learning_rate=0.03)
CHUNK = 6
WEIGHTS = (-4.0, -1.0, 0.5, 4.0, 1.0, -0.5, 0.25)  # of three classes of each side, and the bias


def score(name, row, temperature=1.0, seen=SEEN):
    return float(gate_score(name, jnp.asarray([row], jnp.float32), seen, temperature)[0])


def test_scores_equal_manual_computation():
    third = np.log([0.5, 0.25, 0.25])  # of four slots the last holds no class
    row = [*third, -np.inf]
    assert score("entropy", row) == pytest.approx(1.5 * np.log(2) / np.log(3), rel=1e-5)
    assert score("entropy", [0.0, 0.0, 0.0, 0.0]) == pytest.approx(1)
    assert score("entropy", [90.0, 0.0, 0.0, 0.0]) == pytest.approx(0)
    peaked = np.log([4.0, 1.0, 1.0, 1.0])  # at temperature 2 they are 2, 1, 1, 1 of 5
    two_fifths = -(0.4 * np.log(0.4) + 3 * 0.2 * np.log(0.2)) / np.log(4)
    assert score("entropy", peaked, 2.0) == pytest.approx(two_fifths, rel=1e-5)
    assert score("energy", np.log([1.0, 2.0, 3.0, 6.0])) == pytest.approx(-np.log(3), rel=1e-5)
    assert score("energy", peaked, 2.0) == pytest.approx(2 * np.log(4 / 5), rel=1e-5)
    assert score("energy", row) == pytest.approx(np.log(3), rel=1e-5)
    assert score("stacking", [3.0, 5.0, 4.5, 1.0]) == -0.5
    with pytest.raises(ValueError, match="did you mean 'entropy'"):
        score("entrpy", row)
    with pytest.raises(ValueError, match="expected the weights of a fit"):
        score("logistic", row)


def test_inputs_of_the_logistic_gate_equal_manual_computation():
    seen = jnp.array([True, False, True, False, False, True])
    row = jnp.log(jnp.array([[4.0, 1.0, 9.0, 3.0, 0.0, 0.0]]))  # the last two hold no class
    inputs = logistic_inputs(row, seen, 2.0, 3)  # at temperature 2 the seen side is 2 and 3 of 5
    np.testing.assert_allclose(inputs, [[0.6, 0.4, 0, 0.75, 0.25, 0]], rtol=1e-5)
    inputs = logistic_inputs(row, seen, 2.0, 1)
    np.testing.assert_allclose(inputs, [[0.6, 0.75]], rtol=1e-5)


@given(
    hnp.arrays(np.float32, (5, 4), elements=st.floats(-9, 9, width=32)),
    st.permutations(range(9)),
)
def test_the_logistic_gate_does_not_depend_on_slots(logits, order):
    """Scores do not depend on free slots and the order of classes; each side has fewer than `k`."""
    slots = np.full((5, 9), -np.inf, np.float32)
    slots[:, :4] = logits
    seen = np.pad(SEEN, (0, 5))
    moved, moved_seen = jnp.asarray(slots[:, order]), jnp.asarray(seen[np.array(order)])
    expected = gate_score("logistic", jnp.asarray(logits), SEEN, 1.5, WEIGHTS)
    found = gate_score("logistic", moved, moved_seen, 1.5, WEIGHTS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_side_without_classes_gets_no_samples():
    logits = jnp.array([[1.0, 2.0, -jnp.inf, -jnp.inf], [-jnp.inf, -jnp.inf, 1.0, 2.0]])
    for name in GATES.names:
        for threshold in (-1e9, 1e9):
            sent = is_unseen(Gate(name, 1.0, threshold, WEIGHTS), logits, SEEN)
            assert sent.tolist() == [False, True]


@given(
    hnp.arrays(np.int8, (9, 4), elements=st.integers(-64, 63)),
    st.integers(-100, 100),
)
def test_calibrated_stacking_is_an_argmax_over_all_classes(eighths, gamma):
    logits, gamma = jnp.asarray(eighths, jnp.float32) / 8, gamma / 8  # exact in float32
    moved = np.asarray(logits - gamma * SEEN)
    top = np.sort(moved, axis=1)
    clear = top[:, -1] > top[:, -2]  # no ties
    unseen = is_unseen(Gate("stacking", 1.0, -gamma), logits, SEEN)
    side = jnp.where(unseen[:, None], ~SEEN, SEEN)
    answers = jnp.where(side, logits, -jnp.inf).argmax(axis=1)
    np.testing.assert_array_equal(answers[clear], moved.argmax(axis=1)[clear])


@pytest.fixture(scope="module")
def stream():
    """A zero-shot method, its variables, four candidates and features of 24 samples."""
    model, variables, candidates = small_model()
    return model, variables, candidates, model.encode(variables, small_tokens(24))


@cache
def two_sides(threshold, seen_side="learning", unseen_side="learning"):
    """A cached adapter with a gate that compares the best logits of both sides."""
    model, variables, _ = small_model()
    methods = {"learning": tent(model, variables, TENT), "static": static(model, variables)}
    gate = Gate("stacking", 1.0, threshold)
    sides = methods[seen_side], methods[unseen_side]
    return adapter_of(gated(model, variables, gate, *sides, seen=(0, 1)))


@pytest.mark.parametrize(
    ("threshold", "idle", "busy"), [(1e9, "unseen", "seen"), (-1e9, "seen", "unseen")]
)
def test_a_side_without_samples_does_not_change(stream, threshold, idle, busy):
    _, _, candidates, features = stream
    adapter = two_sides(threshold)
    start = adapter.init(candidates)
    state, prediction = run_stream(adapter, start, features, chunk=CHUNK)
    before, after = start.inner_state, state.inner_state
    jax.tree.map(np.testing.assert_array_equal, getattr(after, idle), getattr(before, idle))
    assert prediction.adapted.any()
    assert not np.array_equal(
        getattr(after, busy).refinement.bias, getattr(before, busy).refinement.bias
    )


def test_each_sample_is_predicted_by_its_side(stream):
    _, _, candidates, features = stream
    adapter = two_sides(0.0)
    _, prediction = run_stream(adapter, adapter.init(candidates), features, chunk=CHUNK)
    finite = np.isfinite(prediction.logits)
    to_seen = finite[:, 0]
    assert 0 < to_seen.sum() < len(to_seen)
    np.testing.assert_array_equal(finite, np.where(to_seen[:, None], SEEN, ~SEEN))
    np.testing.assert_array_equal(np.isin(prediction.label, [0, 1]), to_seen)  # common labels


def test_the_logistic_gate_assigns_the_samples_of_a_stream(stream):
    model, variables, candidates, features = stream
    logits = model.score(variables, features, candidates)
    threshold = float(jnp.median(gate_score("logistic", logits, SEEN, 1.0, WEIGHTS)))
    gate = Gate("logistic", 1.0, threshold, WEIGHTS)
    side = static(model, variables)
    adapter = adapter_of(gated(model, variables, gate, side, side, seen=(0, 1)))
    _, prediction = run_stream(adapter, adapter.init(candidates), features, chunk=CHUNK)
    sent = is_unseen(gate, logits, SEEN)
    assert 0 < sent.sum() < len(sent)
    np.testing.assert_array_equal(np.isin(prediction.label, [2, 3]), sent)


def test_a_side_learns_from_its_own_samples_alone(stream):
    """State and predictions equal those without a gate and another side."""
    model, variables, candidates, features = stream
    logits = model.score(variables, features, candidates)
    to_seen = ~is_unseen(Gate("stacking", 1.0, 0.0), logits, SEEN)
    mine = jax.tree.map(lambda leaf: leaf[to_seen], features)
    alone = adapter_of(tent(model, variables, TENT))
    expected_state, expected = run_stream(alone, alone.init(candidates, SEEN), mine)
    adapter = two_sides(0.0, "learning", "static")
    state, prediction = run_stream(adapter, adapter.init(candidates), mine)
    np.testing.assert_array_equal(prediction.label, expected.label)
    np.testing.assert_allclose(prediction.confidence, expected.confidence, atol=1e-5)
    for a, b in zip(
        jax.tree.leaves(state.inner_state.seen),
        jax.tree.leaves(expected_state.inner_state),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_after_the_last_class_of_a_side_retires_the_other_gets_all_samples(stream):
    _, _, candidates, features = stream
    adapter = two_sides(0.0)
    state, _ = run_stream(adapter, adapter.init(candidates), features, chunk=CHUNK)
    state = retire_class(adapter, retire_class(adapter, state, 0), 1)
    state, prediction = run_stream(adapter, state, features, chunk=CHUNK)
    assert np.isin(prediction.label, [2, 3]).all()
    refinement = state.inner_state.unseen.refinement
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(refinement))


def test_the_rows_of_table_9_are_the_predictions_of_gated_methods(stream):
    model, variables, candidates, features = stream
    predictions = {}
    for row, sides in {
        "Baseline": ("static", "static"),
        "Partial": ("learning", "static"),
        "Full": ("learning", "learning"),
    }.items():
        adapter = two_sides(0.0, *sides)
        start = adapter.init(candidates)
        predictions[row] = run_stream(adapter, start, features, chunk=CHUNK)[1]
    logits = np.asarray(model.score(variables, features, candidates))[None]
    rows = table_9(np.asarray(predictions["Full"].label)[None], logits, np.asarray(SEEN))
    for row, prediction in predictions.items():
        np.testing.assert_array_equal(rows[row][0], prediction.label)
    assert not predictions["Baseline"].adapted.any()
    to_unseen = np.isfinite(predictions["Baseline"].logits[:, 2])
    partial, baseline = predictions["Partial"].logits, predictions["Baseline"].logits
    np.testing.assert_allclose(partial[to_unseen], baseline[to_unseen], atol=1e-5)
    assert not np.array_equal(partial, baseline)
