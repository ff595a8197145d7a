"""What a run has learned: measures on made-up arrays, and those of a trained run."""

import dataclasses

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from dynapurls_jax.evaluation import diagnosis
from dynapurls_jax.evaluation.diagnosis import diagnose, mean_cosine, own_label_accuracy
from dynapurls_jax.evaluation.tasks import ORACLE, unseen_task
from dynapurls_jax.text.granularities import GRANULARITIES
from tests.helpers.runs import changed, fitted, score_only

OF_TOKENS = [
    f"{ORACLE}: unseen classes by their own labels, 1-NN",
    f"{ORACLE}: unseen classes by their own labels, class means",
]


def test_the_mean_cosine_is_that_of_pairs_of_rows():
    same = np.ones((3, 4, 2)) / np.sqrt(2)
    assert mean_cosine(same) == pytest.approx(1)
    assert mean_cosine(np.eye(4)[None]) == pytest.approx(0)


def test_accuracy_by_own_labels_is_the_cross_validation_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [8, 12, 16]))
    tokens = rng.normal(size=(36, 5, 4)).astype(np.float32) + 0.3 * labels[:, None, None]
    flat = StandardScaler().fit_transform(tokens.reshape(36, -1))
    expected = []
    for model in (KNeighborsClassifier(1), NearestCentroid()):
        found = cross_val_predict(model, flat, labels, cv=4)
        expected.append(np.mean(found == labels))
    assert own_label_accuracy(tokens, labels) == pytest.approx(expected)
    assert min(expected) > 0.4
    assert max(expected) < 1


def test_few_clips_of_a_class_do_no_harm():
    tokens = np.eye(5, dtype=np.float32)[:, None] * 9
    assert own_label_accuracy(tokens, np.arange(5)) == (0, 0)
    assert own_label_accuracy(tokens[[0, 0, 0, 4]], np.array([0, 0, 0, 1])) == (0.75, 0.75)
    assert own_label_accuracy(tokens[:1], np.array([0])) == (0, 0)


def test_measures_of_a_run_with_attention(trained):
    run = trained[1]
    found = diagnose(run, unseen_task(run))
    entropies = [f"attention entropy / log S, {name}" for name in GRANULARITIES]
    rows = ["cosine between rows, projected", "cosine between rows, text"]
    assert list(found) == [*rows, *entropies, *OF_TOKENS]
    assert all(-1 <= found[name] <= 1 for name in rows)
    assert all(0 < found[name] <= 1.001 for name in entropies)
    assert found[rows[1]] == pytest.approx(mean_cosine(run.inputs.text[run.protocol.unseen]))
    shares = np.asarray(run.method.attend(run.variables, *unseen_task(run)[:2])).astype(float)
    entropy = -(shares * np.log(shares)).sum(-1).mean((0, 1)) / np.log(shares.shape[-1])
    np.testing.assert_allclose([found[name] for name in entropies], entropy, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda run: fitted(run, "ridge"),
        score_only,
        lambda run: changed(run, {"method.purls.query": "oracle_label"}),
    ],
    ids=["ridge", "score only", "oracle"],
)
def test_a_method_without_attention_of_its_own_has_the_measures_of_its_tokens(trained, make):
    run = make(trained[1])
    assert list(diagnose(run, unseen_task(run))) == OF_TOKENS


def test_many_clips_are_thinned_out_and_broken_ones_do_no_harm(trained, monkeypatch):
    run = trained[1]
    tokens = np.array(run.tokens, np.float32)
    tokens[run.protocol.unseen_test[[1, 2]]] = np.nan
    broken = dataclasses.replace(run, tokens=tokens)
    assert np.isfinite(list(diagnose(broken, unseen_task(broken)).values())).all()
    monkeypatch.setattr(diagnosis, "MAX_CLIPS", 4)
    seen = []
    monkeypatch.setattr(
        diagnosis, "own_label_accuracy", lambda *given: seen.append(given) or (0.0, 0.0)
    )
    diagnose(run, unseen_task(run))
    [(tokens, labels)] = seen
    shown = run.protocol.unseen_test[[0, 2, 4, 7]]
    np.testing.assert_array_equal(tokens, run.tokens[shown])
    np.testing.assert_array_equal(labels, unseen_task(run).labels[[0, 2, 4, 7]])
