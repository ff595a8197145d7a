"""Generalised zero-shot: gate fits and metrics, against values by hand and by brute force."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from dynapurls_jax.adaptation.gated import is_unseen
from dynapurls_jax.adaptation.registry import GATES
from dynapurls_jax.evaluation.gzsl import (
    TEMPERATURES,
    PseudoClips,
    fit_gate,
    gate_of,
    generalised_accuracy,
    harmonic_mean,
    scores_of,
)

SEEN = jnp.array([True, True, False, False])
every_gate = pytest.mark.parametrize("name", GATES.names)
FOLDS = 5


def test_harmonic_mean_and_its_zeros():
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    np.testing.assert_allclose(harmonic_mean([0, 0, 1, 0.4], [0, 1, 0, 0.4]), [0, 0, 0, 0.4])


def test_accuracy_is_computed_for_each_side_and_the_wrong_side_is_a_miss():
    seen = np.array([False, True, True])
    labels = np.array([1, 2, 2, 1, 0, 0])
    predicted = np.array([1, 2, 1, 0, 0, 2])
    found = generalised_accuracy(predicted, labels, seen)
    assert found == (0.5, 0.5, 0.5)


def pseudo_run(rng, held_out=12, unseen=15):
    """Random logits; class 2 is unseen in the real split and inactive."""
    seen = np.array([True, True, False, False, False, True])
    labels = np.concatenate([rng.choice([0, 1, 5], held_out), rng.choice([3, 4], unseen)])
    logits = rng.normal(size=(len(labels), 6)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 1
    logits[:, 2] = -np.inf
    return PseudoClips(logits, labels, seen)


def harmonic_of(runs, fit):
    """`H` on the clips of all runs, each with its own gate."""
    answers = []
    for run in runs:
        gate = gate_of(fit, run.logits[run.of_seen], run.seen)
        unseen = np.asarray(is_unseen(gate, jnp.asarray(run.logits), jnp.asarray(run.seen)))
        side = np.where(unseen[:, None], ~run.seen, run.seen)
        answers.append(np.where(side, run.logits, -np.inf).argmax(axis=1))
    labels = np.concatenate([run.labels for run in runs])
    return generalised_accuracy(np.concatenate(answers), labels, runs[0].seen).harmonic


@pytest.mark.parametrize("name", [name for name in GATES.names if name != "logistic"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_fit_finds_the_optimum(name, count):
    rng = np.random.default_rng(count)
    runs = [pseudo_run(rng) for _ in range(count)]
    fit = fit_gate(name, runs)
    tried = [
        harmonic_of(runs, fit._replace(temperature=temperature, kept=kept))
        for temperature in TEMPERATURES
        for kept in (np.arange(1, 13) - 0.5) / 12
    ]
    assert fit.harmonic == pytest.approx(max(tried))
    assert harmonic_of(runs, fit) == pytest.approx(max(tried))
    assert (fit.seen_clips, fit.unseen_clips) == (12 * count, 15 * count)
    assert fit == fit_gate(name, runs)


def side_inputs(logits, seen, temperature, k):
    """The inputs of the logistic gate in plain NumPy."""
    sides = []
    for side, tau in ((seen, temperature), (~seen, 1.0)):
        powers = np.exp(logits[:, side].astype(float) / tau)
        shares = -np.sort(-powers / powers.sum(axis=1, keepdims=True), axis=1)[:, :k]
        sides.append(np.pad(shares, ((0, 0), (0, k - shares.shape[1]))))
    return np.concatenate(sides, axis=1)


def logistic_scores_by_folds(run, temperature):
    """Cross-validated log-odds by scikit-learn, with folds that are stratified by side."""
    folds = np.where(run.of_seen, np.cumsum(run.of_seen), np.cumsum(~run.of_seen)) % FOLDS
    inputs = side_inputs(run.logits, run.seen, temperature, 2)
    split = PredefinedSplit(folds)
    model = LogisticRegression(max_iter=5000)
    return cross_val_predict(model, inputs, ~run.of_seen, cv=split, method="decision_function")


@pytest.mark.parametrize("count", [1, 2])
def test_the_logistic_gate_equals_regression_by_scikit_learn(count):
    runs = [pseudo_run(np.random.default_rng(5))] * count
    fit, run = fit_gate("logistic", runs), runs[0]
    inputs = np.concatenate([side_inputs(run.logits, run.seen, fit.temperature, 2)] * count)
    model = LogisticRegression(max_iter=5000).fit(inputs, np.tile(~run.of_seen, count))
    np.testing.assert_allclose(fit.weights, [*model.coef_[0], *model.intercept_], atol=1e-4)
    scores = scores_of("logistic", run.logits, run.seen, fit.temperature, fit.weights)
    expected = model.decision_function(inputs)[: len(scores)]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_the_logistic_gate_is_selected_by_cross_validation():
    run = pseudo_run(np.random.default_rng(6), held_out=30, unseen=35)
    fit = fit_gate("logistic", [run])
    best_of_side = np.where(run.of_seen[:, None] == run.seen, run.logits, -np.inf).argmax(axis=1)
    hits, tried = best_of_side == run.labels, {}
    for temperature in TEMPERATURES:
        scores = logistic_scores_by_folds(run, temperature)
        for threshold in np.sort(scores)[:-1]:
            right = hits & ((scores > threshold) == ~run.of_seen)
            sides = right[run.of_seen].mean(), right[~run.of_seen].mean()
            tried[temperature] = max(tried.get(temperature, 0), float(harmonic_mean(*sides)))
    assert fit.harmonic == pytest.approx(max(tried.values()))
    assert tried[fit.temperature] == pytest.approx(fit.harmonic)
    scores = logistic_scores_by_folds(run, fit.temperature)
    threshold = np.quantile(scores[run.of_seen], fit.kept, method="inverted_cdf")
    right = hits & ((scores > threshold) == ~run.of_seen)
    reached = harmonic_mean(right[run.of_seen].mean(), right[~run.of_seen].mean())
    assert reached == pytest.approx(fit.harmonic)


def test_a_logistic_gate_transfers_to_other_numbers_of_classes():
    """Fitted on three seen and two unseen classes, used with one seen and four unseen classes."""
    rng = np.random.default_rng(7)
    fit = fit_gate("logistic", [pseudo_run(rng)])
    seen = np.array([False, True, False, False, False])
    logits = rng.normal(size=(9, 5)).astype(np.float32)
    gate = gate_of(fit, logits[:4], seen)
    inputs = side_inputs(logits, seen, fit.temperature, 2)
    expected = inputs @ np.array(fit.weights[:-1]) + fit.weights[-1]
    sent = is_unseen(gate, jnp.asarray(logits), jnp.asarray(seen))
    np.testing.assert_array_equal(sent, expected > gate.threshold + 1e-4)
    assert gate.weights == fit.weights
    assert len(fit.weights) == 5


def test_the_middle_of_equally_good_shares_is_chosen():
    """Six validation clips, all recognised; unseen clips have higher scores than four of them."""
    best_seen = np.array([6, 5, 4, 3, 1, 1, 2, 2, 2, 2], np.float32)
    labels = np.repeat([0, 1], [6, 4])
    logits = np.stack([best_seen, np.zeros(10, np.float32)], axis=1)
    fit = fit_gate("stacking", [PseudoClips(logits, labels, np.array([True, False]))])
    assert fit.kept == pytest.approx((3 / 6 + 4 / 6) / 2)  # all four unseen clips rank 4/6
    assert fit.harmonic == pytest.approx(harmonic_mean(4 / 6, 1))
    apart = fit_gate(
        "stacking",
        [PseudoClips(logits[[0, 1, 2, 6, 7]], labels[[0, 1, 2, 6, 7]], np.array([True, False]))],
    )
    assert apart.harmonic == 1


def test_a_fit_on_unsuitable_clips_is_refused():
    run = pseudo_run(np.random.default_rng(0))
    with pytest.raises(ValueError, match="got 12 and 0"):
        fit_gate("energy", [PseudoClips(run.logits[:12], run.labels[:12], run.seen)])
    same = PseudoClips(np.zeros_like(run.logits), run.labels, run.seen)
    with pytest.raises(ValueError, match="expected different scores for the fit, all 27 are"):
        fit_gate("entropy", [same])
    one = run.of_seen.argmin()  # the first clip of an unseen class
    few = PseudoClips(run.logits[: one + 1], run.labels[: one + 1], run.seen)
    with pytest.raises(ValueError, match="at least two clips of each side"):
        fit_gate("logistic", [few])


@every_gate
def test_a_gate_separates_confident_from_ambiguous_clips(name):
    confident, ambiguous = [9.0, 0.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0]
    logits = np.array([confident] * 5 + [ambiguous] * 4, np.float32)
    unseen = np.repeat([False, True], [5, 4])
    run = PseudoClips(logits, np.repeat([0, 2], [5, 4]), np.asarray(SEEN))
    fit = fit_gate(name, [run])
    for temperature in (1.0, fit.temperature):
        scores = scores_of(name, logits, np.asarray(SEEN), temperature, fit.weights)
        assert scores[unseen].min() > scores[~unseen].max()
    assert fit.harmonic == 1
    assert harmonic_of([run], fit) == 1
