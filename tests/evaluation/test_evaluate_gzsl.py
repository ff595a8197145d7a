"""Generalised zero-shot evaluation of trained runs: the report, and labels that cannot leak."""

import dataclasses
import json

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
from tests.helpers.runs import changed, fitted, with_labels
from tests.helpers.trained import SPLIT, load_small


@pytest.fixture(scope="module")
def pseudo(trained):
    """The pseudo run of the shared workdir."""
    return load_small(trained[0], split=pseudo_split(SPLIT))


@pytest.fixture(scope="module")
def fits(pseudo):
    """All gates, fitted."""
    return {gate: fit_gate(gate, [pseudo_clips(pseudo)]) for gate in GATES.names}


@pytest.mark.parametrize("gates", [("entropy",), pytest.param(GATES.names, marks=pytest.mark.slow)])
def test_the_report_has_every_row(trained, pseudo, tmp_path, gates):
    run = changed(trained[1], {"adapter.name": "static"})
    corpus = dataclasses.replace(run.inputs.corpus, synthetic=True)
    run = dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, corpus=corpus))
    text = evaluate_gzsl(iter([run]), {SPLIT: [pseudo]}, tmp_path, gates, "the command")
    assert "SYNTHETIC" in text
    assert "`the command`" in text
    assert "purls (label_free)" in text
    assert f"| {SPLIT} | 6 + 2 | 24 + 8 | 1 x 2 | none | static |" in text
    names = {"entropy": "entropy (eq. 17)", "energy": "energy", "stacking": "calibrated stacking"}
    for gate in gates:
        for row in ("Baseline", "Partial", "Full"):
            assert f"| 1 x 2 | {names[gate]} | {row} |" in text
        assert f"| {SPLIT} | {names[gate]} | pseudo-{SPLIT}-0 | 0 | 4 + 8 |" in text
    assert (tmp_path / "gate_roc.png").stat().st_size > 1000
    record = json.loads((tmp_path / "report.json").read_text())
    assert [fit["score"] for fit in record["fits"]] == list(gates)
    assert record["fits"][0]["seeds"] == [0]
    found = record["runs"][0]["accuracy_of_each_order"]
    assert len(found) == (1 + 3 * len(gates)) * 2
    for row in found:
        assert row["harmonic"] == pytest.approx(harmonic_mean(row["seen"], row["unseen"]))
    assert 0 <= record["runs"][0]["gates_on_test"]["entropy"]["auroc"] <= 1


def test_the_fit_reads_no_test_clip_and_no_unseen_class(trained, pseudo):
    """With other texts of the unseen classes, the clips to fit on are scored the same."""
    real = trained[1].protocol
    hidden = np.concatenate([real.seen_test, real.unseen_test])
    assert not np.isin(hidden, [*pseudo.protocol.val, *pseudo.protocol.unseen_test]).any()
    clips = pseudo_clips(pseudo)
    text = pseudo.inputs.text.copy()
    text[real.unseen] = text[real.unseen][:, ::-1]
    inputs = dataclasses.replace(pseudo.inputs, text=text)
    changed_text = pseudo_clips(dataclasses.replace(pseudo, inputs=inputs))
    jax.tree.map(np.testing.assert_array_equal, clips, changed_text)
    assert (clips.logits[:, real.unseen] == -np.inf).all()
    assert np.isfinite(clips.logits[:, [*pseudo.protocol.seen, *pseudo.protocol.unseen]]).all()


def test_permuting_test_labels_leaves_every_prediction_bit_identical(trained, fits):
    run = changed(trained[1], {"adapter.name": "balanced"})
    test = np.concatenate([run.protocol.seen_test, run.protocol.unseen_test])
    labels = run.inputs.corpus.labels.copy()
    labels[test] = np.random.default_rng(0).permutation(labels[test])
    two = {gate: fits[gate] for gate in ("entropy", "stacking")}
    a, b = evaluate_gzsl_run(run, two), evaluate_gzsl_run(with_labels(run, labels), two)
    assert not np.array_equal(a.labels, b.labels)
    assert a.gates == b.gates
    for x, y in ((a.predicted, b.predicted), (a.scores, b.scores)):
        jax.tree.map(np.testing.assert_array_equal, list(x.values()), list(y.values()))
    taking_part = [*run.protocol.seen, *run.protocol.unseen]
    seen = seen_classes(run)
    for (gate, _), predicted in a.predicted.items():
        assert np.isin(predicted, taking_part).all()
        if gate != "none":  # the corpus's own ids, on either side
            sent = a.scores[gate][a.order] > a.gates[gate].threshold
            np.testing.assert_array_equal(~seen[predicted], sent)


def test_ridge_has_a_gate_too(trained, pseudo):
    run, other = fitted(trained[1], "ridge"), fitted(pseudo, "ridge")
    run = changed(run, {"adapter.name": "static"})
    result = evaluate_gzsl_run(run, {"entropy": fit_gate("entropy", [pseudo_clips(other)])})
    assert all(0 <= value <= 1 for value in result.accuracies("entropy", "Full")[0])


def test_a_method_that_needs_labels_and_pseudo_splits_alone_are_refused(trained):
    run = changed(trained[1], {"method.purls.query": "oracle_label"})
    with pytest.raises(ValueError, match="no zero-shot logits"):
        static_logits(run, run.protocol.val)
    assert real_splits((pseudo_split(SPLIT), SPLIT)) == (SPLIT,)
    with pytest.raises(ValueError, match="on pseudo splits gates are fitted"):
        real_splits((pseudo_split(SPLIT),))
