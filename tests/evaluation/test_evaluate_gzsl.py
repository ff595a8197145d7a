"""Generalised zero-shot evaluation of trained runs: the report, and no label leakage."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from data_pipelines.protocols import pseudo_split
from dynapurls_jax.adaptation.registry import GATES
from dynapurls_jax.evaluation.evaluate_gzsl import (
    evaluate_gzsl,
    evaluate_gzsl_run,
    pseudo_clips,
    real_splits,
    seen_classes,
    static_logits,
)
from dynapurls_jax.evaluation.gzsl import fit_gate, harmonic_mean
from dynapurls_jax.evaluation.gzsl_report import NAMES
from tests.helpers.runs import changed, fitted, with_labels
from tests.helpers.trained import SPLIT, load_small

TWO_GATES = ("entropy", "logistic")  # one without and one with weights


@pytest.fixture(scope="module")
def pseudo(trained):
    """The pseudo run of the shared workdir."""
    return load_small(trained[0], split=pseudo_split(SPLIT))


@pytest.fixture(scope="module")
def clips(pseudo):
    """The clips on which gates are fitted."""
    return pseudo_clips(pseudo)


@pytest.fixture(scope="module")
def adapted(trained, clips):
    """A run with a test-time method, and its result with two gates."""
    run = changed(trained[1], {"adapter.name": "adanpc", "eval.chunk": 4})
    return run, evaluate_gzsl_run(run, {gate: fit_gate(gate, [clips]) for gate in TWO_GATES})


def check_viewer(viewer, run):
    """The page has every test clip, with predictions on the side that the gate chooses."""
    protocol, corpus = run.protocol, run.inputs.corpus
    clips = [*protocol.seen_test, *protocol.unseen_test]
    assert [clip["id"] for clip in viewer["clips"]] == [corpus.clip_ids[n] for n in clips]
    unseen = [name.endswith(" (unseen)") for name in viewer["classes"]]
    assert sum(unseen) == len(protocol.unseen)
    for clip, label in zip(viewer["clips"], corpus.labels[clips], strict=True):
        assert viewer["classes"][clip["label"]].startswith(corpus.class_names[label])
        assert unseen[clip["label"]] == (label in protocol.unseen)
        [sent] = {unseen[guess] for guess in clip["guesses"]}
        truth = "right" if sent == unseen[clip["label"]] else "wrong"
        assert clip["note"] == f"Gate: {'unseen' if sent else 'seen'} ({truth})."


def check_report(run, pseudo, folder, gates):
    """The report has every row; returns the data of the page."""
    corpus = dataclasses.replace(run.inputs.corpus, synthetic=True)
    run = dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, corpus=corpus))
    text = evaluate_gzsl(iter([run]), {SPLIT: [pseudo]}, folder, gates, "the command")
    assert "SYNTHETIC" in text
    assert "`the command`" in text
    assert "purls (label_free)" in text
    assert f"| {SPLIT} | 6 + 2 | 24 + 8 | 1 x 2 | none | static |" in text
    for gate in gates:
        for row in ("Baseline", "Partial", "Full"):
            assert f"| 1 x 2 | {NAMES[gate]} | {row} |" in text
        assert f"| {SPLIT} | {NAMES[gate]} | pseudo-{SPLIT}-0 | 0 | 4 + 8 |" in text
    assert (folder / "gate_roc.png").stat().st_size > 1000
    assert f"({SPLIT}-seed0.html)" in text
    page = (folder / f"{SPLIT}-seed0.html").read_text("utf-8")
    viewer = json.loads(re.search(r'application/json">(.*?)</script>', page)[1])
    check_viewer(viewer, run)
    record = json.loads((folder / "report.json").read_text())
    assert [fit["score"] for fit in record["fits"]] == list(gates)
    assert record["fits"][0]["seeds"] == [0]
    found = record["runs"][0]["accuracy_of_each_order"]
    assert len(found) == (1 + 3 * len(gates)) * 2
    for row in found:
        assert row["harmonic"] == pytest.approx(harmonic_mean(row["seen"], row["unseen"]))
    assert 0 <= record["runs"][0]["gates_on_test"]["entropy"]["auroc"] <= 1
    return viewer


def test_the_report_has_every_row(adapted, pseudo, clips, tmp_path, monkeypatch):
    run, result = adapted
    module = "dynapurls_jax.evaluation.evaluate_gzsl"
    monkeypatch.setattr(f"{module}.evaluate_gzsl_run", lambda *_: result)
    monkeypatch.setattr(f"{module}.pseudo_clips", lambda _: clips)
    viewer = check_report(run, pseudo, tmp_path, TWO_GATES)
    for when, row in enumerate(("Baseline", "Full")):
        answers = result.predicted[TWO_GATES[0], row][0]  # the page shows the first order
        shown = [result.class_ids[clip["guesses"][when]] for clip in viewer["clips"]]
        assert shown == [answers[clip["place"]] for clip in viewer["clips"]]


@pytest.mark.slow
def test_the_report_of_all_gates(trained, pseudo, tmp_path):
    check_report(trained[1], pseudo, tmp_path, GATES.names)


def test_the_fit_reads_no_test_clip_and_no_unseen_class(trained, pseudo, clips):
    """Other texts of the unseen classes do not change the scores of the fit."""
    real = trained[1].protocol
    hidden = np.concatenate([real.seen_test, real.unseen_test])
    assert not np.isin(hidden, [*pseudo.protocol.val, *pseudo.protocol.unseen_test]).any()
    text = pseudo.inputs.text.copy()
    text[real.unseen] = text[real.unseen][:, ::-1]
    inputs = dataclasses.replace(pseudo.inputs, text=text)
    changed_text = pseudo_clips(dataclasses.replace(pseudo, inputs=inputs))
    jax.tree.map(np.testing.assert_array_equal, clips, changed_text)
    assert (clips.logits[:, real.unseen] == -np.inf).all()
    assert np.isfinite(clips.logits[:, [*pseudo.protocol.seen, *pseudo.protocol.unseen]]).all()


def check_that_labels_change_nothing(run, a, fits):
    """Permuting the labels of test clips leaves every prediction bit-identical."""
    test = np.concatenate([run.protocol.seen_test, run.protocol.unseen_test])
    labels = run.inputs.corpus.labels.copy()
    labels[test] = np.random.default_rng(0).permutation(labels[test])
    b = evaluate_gzsl_run(with_labels(run, labels), fits)
    assert not np.array_equal(a.labels, b.labels)
    assert a.gates == b.gates
    for x, y in ((a.predicted, b.predicted), (a.scores, b.scores)):
        jax.tree.map(np.testing.assert_array_equal, list(x.values()), list(y.values()))
    taking_part = [*run.protocol.seen, *run.protocol.unseen]
    seen = seen_classes(run)
    for (gate, _), predicted in a.predicted.items():
        assert np.isin(predicted, taking_part).all()
        if gate != "none":  # class ids of the corpus, on both sides
            sent = a.scores[gate][a.order] > a.gates[gate].threshold
            np.testing.assert_array_equal(~seen[predicted], sent)


def test_permuting_test_labels_leaves_every_prediction_bit_identical(adapted, clips):
    fits = {gate: fit_gate(gate, [clips]) for gate in TWO_GATES}
    check_that_labels_change_nothing(*adapted, fits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["balanced", "dynapurls"])
def test_no_method_behind_a_gate_reads_labels(trained, clips, name):
    run = changed(trained[1], {"adapter.name": name})
    fits = {gate: fit_gate(gate, [clips]) for gate in GATES.names}
    check_that_labels_change_nothing(run, evaluate_gzsl_run(run, fits), fits)


def test_a_gate_works_with_ridge(trained, pseudo):
    run, other = fitted(trained[1], "ridge"), fitted(pseudo, "ridge")
    run = changed(run, {"adapter.name": "static"})
    result = evaluate_gzsl_run(run, {"entropy": fit_gate("entropy", [pseudo_clips(other)])})
    assert all(0 <= value <= 1 for value in result.accuracies("entropy", "Full")[0])


def test_oracle_queries_and_only_pseudo_splits_are_refused(trained):
    run = changed(trained[1], {"method.purls.query": "oracle_label"})
    with pytest.raises(ValueError, match="no zero-shot logits"):
        static_logits(run, run.protocol.val)
    assert real_splits((pseudo_split(SPLIT), SPLIT)) == (SPLIT,)
    with pytest.raises(ValueError, match="pseudo splits serve to fit the gates"):
        real_splits((pseudo_split(SPLIT),))
