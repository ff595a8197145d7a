"""Generalised zero-shot: the fit of the gates and the metrics, by hand and by brute force."""

import jax.numpy as jnp
import numpy as np
import pytest

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


def test_harmonic_mean_and_its_zeros():
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    np.testing.assert_allclose(harmonic_mean([0, 0, 1, 0.4], [0, 1, 0, 0.4]), [0, 0, 0, 0.4])


def test_each_side_counts_for_itself_and_the_wrong_side_is_a_miss():
    seen = np.array([False, True, True])
    labels = np.array([1, 2, 2, 1, 0, 0])
    predicted = np.array([1, 2, 1, 0, 0, 2])
    found = generalised_accuracy(predicted, labels, seen)
    assert found == (0.5, 0.5, 0.5)


def pseudo_run(rng, held_out=12, unseen=15):
    """Random logits; class 2 is really unseen and takes no part."""
    seen = np.array([True, True, False, False, False, True])
    labels = np.concatenate([rng.choice([0, 1, 5], held_out), rng.choice([3, 4], unseen)])
    logits = rng.normal(size=(len(labels), 6)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 1
    logits[:, 2] = -np.inf
    return PseudoClips(logits, labels, seen)


def reached(runs, fit):
    """`H` of all runs' clips together, each behind its own gate."""
    answers = []
    for run in runs:
        gate = gate_of(fit, run.logits[run.of_seen], run.seen)
        unseen = np.asarray(is_unseen(gate, jnp.asarray(run.logits), jnp.asarray(run.seen)))
        side = np.where(unseen[:, None], ~run.seen, run.seen)
        answers.append(np.where(side, run.logits, -np.inf).argmax(axis=1))
    labels = np.concatenate([run.labels for run in runs])
    return generalised_accuracy(np.concatenate(answers), labels, runs[0].seen).harmonic


@every_gate
@pytest.mark.parametrize("count", [1, 2])
def test_the_fit_finds_the_best_of_all(name, count):
    rng = np.random.default_rng(count)
    runs = [pseudo_run(rng) for _ in range(count)]
    fit = fit_gate(name, runs)
    tried = [
        reached(runs, fit._replace(temperature=temperature, kept=kept))
        for temperature in TEMPERATURES
        for kept in (np.arange(1, 13) - 0.5) / 12
    ]
    assert fit.harmonic == pytest.approx(max(tried))
    assert reached(runs, fit) == pytest.approx(max(tried))
    assert (fit.seen_clips, fit.unseen_clips) == (12 * count, 15 * count)
    assert fit == fit_gate(name, runs)


def test_of_equally_good_shares_the_middle_is_taken():
    """Six held-out clips, all recognised; unseen clips score above all of them but the last two."""
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


def test_a_fit_that_cannot_be_is_refused_with_a_reason():
    run = pseudo_run(np.random.default_rng(0))
    with pytest.raises(ValueError, match="got 12 and 0"):
        fit_gate("energy", [PseudoClips(run.logits[:12], run.labels[:12], run.seen)])
    same = PseudoClips(np.zeros_like(run.logits), run.labels, run.seen)
    with pytest.raises(ValueError, match="all 27 clips to fit it on score the same"):
        fit_gate("entropy", [same])


@every_gate
def test_a_gate_separates_certain_clips_from_torn_ones(name):
    certain, torn = [9.0, 0.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0]
    logits = np.array([certain] * 5 + [torn] * 4, np.float32)
    unseen = np.repeat([False, True], [5, 4])
    scores = scores_of(name, logits, np.asarray(SEEN), 1.0)
    assert scores[unseen].min() > scores[~unseen].max()
    run = PseudoClips(logits, np.repeat([0, 2], [5, 4]), np.asarray(SEEN))
    fit = fit_gate(name, [run])
    assert fit.harmonic == 1
    assert reached([run], fit) == 1
