"""Generalised zero-shot: the gates by hand, their fit, the two sides, the whole path, no leaks."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_pipelines.protocols import make_protocol
from dynapurls_jax.adaptation import (
    Gate,
    RefineSettings,
    adapter_of,
    dynapurls,
    gated,
    retire_class,
    run_stream,
    static,
)
from dynapurls_jax.adaptation.gated import GATE_SCORES, gate_score, is_unseen
from dynapurls_jax.config import GATES
from dynapurls_jax.evaluation.gzsl import (
    TEMPERATURES,
    PseudoClips,
    auroc,
    fit_gate,
    gate_of,
    generalised_accuracy,
    harmonic_mean,
    scores_of,
    table_9,
)
from dynapurls_jax.evaluation.gzsl_report import pseudo_split
from dynapurls_jax.evaluation.evaluate_gzsl import (
    evaluate_gzsl,
    evaluate_run,
    pseudo_clips,
    pseudo_seeds,
    seen_classes,
)
from dynapurls_jax.training.run import load_trained, train_one, trained_seeds
from tests.helpers.small_model import first, part, small_model, small_tokens
from tests.test_training import SPLIT, small_config, small_inputs

SEEN = jnp.array([True, True, False, False])
every_gate = pytest.mark.parametrize("name", GATES)


def score(name, row, temperature=1.0, seen=SEEN):
    return float(gate_score(name, jnp.asarray([row], jnp.float32), seen, temperature)[0])


def test_scores_worked_by_hand():
    third = np.log([0.5, 0.25, 0.25])  # of four slots the last holds no class
    row = [*third, -np.inf]
    assert score("entropy", row) == pytest.approx(1.5 * np.log(2) / np.log(3), rel=1e-5)
    assert score("entropy", [0.0, 0.0, 0.0, 0.0]) == pytest.approx(1)
    assert score("entropy", [90.0, 0.0, 0.0, 0.0]) == pytest.approx(0)
    flat = np.log([4.0, 1.0, 1.0, 1.0])  # at temperature 2 they are 2, 1, 1, 1 of 5
    two_fifths = -(0.4 * np.log(0.4) + 3 * 0.2 * np.log(0.2)) / np.log(4)
    assert score("entropy", flat, 2.0) == pytest.approx(two_fifths, rel=1e-5)
    assert score("energy", np.log([1.0, 2.0, 3.0, 6.0])) == pytest.approx(-np.log(3), rel=1e-5)
    assert score("energy", flat, 2.0) == pytest.approx(2 * np.log(4 / 5), rel=1e-5)
    assert score("energy", row) == pytest.approx(np.log(3), rel=1e-5)
    assert score("stacking", [3.0, 5.0, 4.5, 1.0]) == -0.5
    with pytest.raises(ValueError, match="did you mean 'entropy'"):
        score("entrpy", row)


def test_names_of_gates_are_those_of_the_scores():
    assert set(GATES) == set(GATE_SCORES)


def test_a_side_without_classes_gets_nothing():
    logits = jnp.array([[1.0, 2.0, -jnp.inf, -jnp.inf], [-jnp.inf, -jnp.inf, 1.0, 2.0]])
    for name in GATES:
        for threshold in (-1e9, 1e9):
            sent = is_unseen(Gate(name, 1.0, threshold), logits, SEEN)
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
    for _ in range(3):
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
def test_a_gate_that_separates_perfectly_has_auroc_1(name):
    sure, torn = [9.0, 0.0, 0.0, 0.0], [0.5, 0.0, 1.0, 0.0]
    logits = np.array([sure] * 5 + [torn] * 4, np.float32)
    unseen = np.repeat([False, True], [5, 4])
    scores = scores_of(name, logits, np.asarray(SEEN), 1.0)
    assert auroc(scores, unseen) == 1
    assert auroc(scores, ~unseen) == 0
    run = PseudoClips(logits, np.repeat([0, 2], [5, 4]), np.asarray(SEEN))
    fit = fit_gate(name, [run])
    assert fit.harmonic == 1
    assert reached([run], fit) == 1


def two_sides(threshold, methods=("refined", "refined"), seen=(0, 1)):
    """Adapter, text and stream of a gate that looks at the best logits."""
    model, variables, text = small_model()
    visual = model.encode(variables, small_tokens(24))
    settings = RefineSettings(min_samples=2, slots=3, horizon=None)
    known = {
        "refined": dynapurls(model, variables, first(visual), settings),
        "static": static(model, variables),
    }
    one, other = (known[name] for name in methods)
    gate = Gate("stacking", 1.0, threshold)
    return adapter_of(gated(model, variables, gate, one, other, seen)), text, visual


@pytest.mark.parametrize(
    ("threshold", "idle", "busy"), [(1e9, "unseen", "seen"), (-1e9, "seen", "unseen")]
)
def test_a_side_that_gets_nothing_does_not_change(threshold, idle, busy):
    adapter, text, visual = two_sides(threshold)
    start = adapter.init(text)
    state, prediction = run_stream(adapter, start, visual, chunk=5)
    jax.tree.map(np.testing.assert_array_equal, getattr(state.own, idle), getattr(start.own, idle))
    assert prediction.adapted.any()
    assert not np.array_equal(
        getattr(state.own, busy).refinement.bias, getattr(start.own, busy).refinement.bias
    )


def test_a_sample_is_answered_and_learned_by_its_side_alone():
    adapter, text, visual = two_sides(0.0)
    state, prediction = run_stream(adapter, adapter.init(text), visual, chunk=5)
    finite = np.isfinite(prediction.logits)
    to_seen = finite[:, 0]
    assert 0 < to_seen.sum() < len(to_seen)
    np.testing.assert_array_equal(finite, np.where(to_seen[:, None], SEEN, ~SEEN))
    np.testing.assert_array_equal(np.isin(prediction.label, [0, 1]), to_seen)  # ids of the whole
    held = [side.memory.filled.any(axis=1).tolist() for side in state.own]
    assert held[0][2:] == [False, False]
    assert held[1][:2] == [False, False]
    # A side learns as it would from its own samples, with no gate and no other side.
    model, variables, _ = small_model()
    settings = RefineSettings(min_samples=2, slots=3, horizon=None)
    alone = adapter_of(dynapurls(model, variables, first(visual), settings))
    mine = jax.tree.map(lambda leaf: leaf[to_seen], visual)
    state, expected = run_stream(alone, alone.init(text, SEEN), mine)
    adapter, *_ = two_sides(0.0, ("refined", "static"))
    _, prediction = run_stream(adapter, adapter.init(text), mine)
    np.testing.assert_array_equal(prediction.label, expected.label)
    np.testing.assert_allclose(prediction.confidence, expected.confidence, atol=1e-5)


def test_the_rows_of_table_9_are_what_such_methods_predict():
    ways = {
        "Baseline": ("static", "static"),
        "Partial": ("refined", "static"),
        "Full": ("refined", "refined"),
    }
    runs = {}
    for row, methods in ways.items():
        adapter, text, visual = two_sides(0.0, methods)
        runs[row] = run_stream(adapter, adapter.init(text), visual)[1]
    model, variables, _ = small_model()
    logits = np.asarray(model.score(variables, visual, text))[None]
    rows = table_9(np.asarray(runs["Full"].label)[None], logits, np.asarray(SEEN))
    for row, run in runs.items():
        np.testing.assert_array_equal(rows[row][0], run.label)
    assert not runs["Baseline"].adapted.any()
    to_unseen = np.isfinite(runs["Baseline"].logits[:, 2])
    partial, baseline = runs["Partial"].logits, runs["Baseline"].logits
    np.testing.assert_allclose(partial[to_unseen], baseline[to_unseen], atol=1e-5)
    assert not np.array_equal(partial, baseline)


def test_a_side_whose_last_class_retires_leaves_all_to_the_other():
    adapter, text, visual = two_sides(0.0)
    state, _ = run_stream(adapter, adapter.init(text), part(visual, 12))
    state = retire_class(adapter, retire_class(adapter, state, 0), 1)
    state, prediction = run_stream(adapter, state, part(visual, 12, None))
    assert np.isin(prediction.label, [2, 3]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.own.unseen.refinement))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A small workdir with a real and a pseudo run."""
    folder = tmp_path_factory.mktemp("gzsl")
    inputs = small_inputs(config())
    for split in (SPLIT, pseudo_split(SPLIT)):
        train_one(inputs, folder, split, 0)
    return folder


def config():
    settings = small_config()
    settings.pretrain.epochs = 1
    settings.alignment.epochs = 2
    return settings


def test_the_whole_path_reports_every_row(workdir, tmp_path, monkeypatch):
    inputs = small_inputs(config(), synthetic=True)
    monkeypatch.setattr("dynapurls_jax.evaluation.evaluate_gzsl.load_inputs", lambda _: inputs)
    text = evaluate_gzsl(inputs.config, workdir, tmp_path, GATES, "the command")
    assert "SYNTHETIC" in text
    assert "`the command`" in text
    assert f"| {SPLIT} | 6 + 2 | 24 + 8 | 1 x 2 | none | static |" in text
    for gate in ("entropy (eq. 17)", "energy", "calibrated stacking"):
        for row in ("Baseline", "Partial", "Full"):
            assert f"| 1 x 2 | {gate} | {row} |" in text
        assert f"| {SPLIT} | {gate} | pseudo-{SPLIT}-0 | 0 | 4 + 8 |" in text
    assert (tmp_path / "gate_roc.png").stat().st_size > 1000
    record = json.loads((tmp_path / "report.json").read_text())
    assert [fit["score"] for fit in record["fits"]] == list(GATES)
    found = record["runs"][0]["accuracy_of_each_order"]
    assert len(found) == (1 + 3 * len(GATES)) * 2
    for row in found:
        assert row["harmonic"] == pytest.approx(harmonic_mean(row["seen"], row["unseen"]))
    assert 0 <= record["runs"][0]["gates_on_test"]["entropy"]["auroc"] <= 1


def test_the_fit_sees_no_test_clip_and_no_unseen_class(workdir):
    """With noise in the place of all that a test is made of, the fit and the gate are the same."""
    inputs = small_inputs(config())
    pseudo = load_trained(inputs, workdir, pseudo_split(SPLIT), 0)
    real = make_protocol(inputs.corpus, SPLIT)
    hidden = np.concatenate([real.seen_test, real.unseen_test])
    assert not np.isin(hidden, [*pseudo.protocol.val, *pseudo.protocol.unseen_test]).any()
    runs = pseudo_clips(inputs, workdir, SPLIT, (0,))
    text = inputs.text.copy()
    text[real.unseen] = text[real.unseen][:, ::-1]
    other = dataclasses.replace(inputs, text=text)
    changed = pseudo_clips(other, workdir, SPLIT, (0,))
    jax.tree.map(np.testing.assert_array_equal, runs, changed)
    assert (runs[0].logits[:, real.unseen] == -np.inf).all()
    assert np.isfinite(runs[0].logits[:, [*pseudo.protocol.seen, *pseudo.protocol.unseen]]).all()


def test_permuting_test_labels_leaves_every_prediction_bit_identical(workdir):
    inputs = small_inputs(config())
    run = load_trained(inputs, workdir, SPLIT, 0)
    fits = {gate: fit_gate(gate, pseudo_clips(inputs, workdir, SPLIT, (0,))) for gate in GATES}
    test = np.concatenate([run.protocol.seen_test, run.protocol.unseen_test])
    labels = inputs.corpus.labels.copy()
    labels[test] = np.random.default_rng(0).permutation(labels[test])
    shuffled = dataclasses.replace(inputs, corpus=dataclasses.replace(inputs.corpus, labels=labels))
    a, b = evaluate_run(inputs, run, fits), evaluate_run(shuffled, run, fits)
    assert not np.array_equal(a.labels, b.labels)
    assert a.gates == b.gates
    for x, y in ((a.predicted, b.predicted), (a.scores, b.scores)):
        jax.tree.map(np.testing.assert_array_equal, list(x.values()), list(y.values()))
    everything = [*run.protocol.seen, *run.protocol.unseen]
    seen = seen_classes(inputs, run.protocol)
    for (gate, _), predicted in a.predicted.items():
        assert np.isin(predicted, everything).all()
        if gate != "none":  # the corpus's own ids, whatever the side
            sent = a.scores[gate][a.order] > a.gates[gate].threshold
            np.testing.assert_array_equal(~seen[predicted], sent)


def test_what_is_missing_is_said(workdir, tmp_path, monkeypatch):
    inputs = small_inputs(config())
    monkeypatch.setattr("dynapurls_jax.evaluation.evaluate_gzsl.load_inputs", lambda _: inputs)
    assert trained_seeds(inputs, workdir, pseudo_split(SPLIT)) == (0,)
    command = rf"train --config=.*--config.splits=\"\('{SPLIT}', 'pseudo-{SPLIT}-0'\)\""
    with pytest.raises(FileNotFoundError, match=command):
        pseudo_seeds(inputs, tmp_path, SPLIT)
    settings = config()
    settings.splits = (pseudo_split(SPLIT),)
    with pytest.raises(ValueError, match="on pseudo splits gates are fitted"):
        evaluate_gzsl(settings, workdir, tmp_path, GATES, "")
    settings.alignment.query = "oracle_label"
    with pytest.raises(ValueError, match="no zero-shot logits"):
        evaluate_gzsl(settings, workdir, tmp_path, GATES, "")
