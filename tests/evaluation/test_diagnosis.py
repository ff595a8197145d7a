"""Diagnosis of runs: measures on synthetic arrays and on a trained run."""

import dataclasses

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from dynapurls_jax.evaluation import diagnosis
from dynapurls_jax.evaluation.diagnosis import diagnose, mean_cosine, supervised_accuracy
from dynapurls_jax.evaluation.tasks import ORACLE, unseen_task
from dynapurls_jax.text.granularities import GRANULARITIES
from tests.helpers.runs import changed, fitted, score_only

OF_TOKENS = [
    f"{ORACLE}: supervised accuracy, 1-NN",
    f"{ORACLE}: supervised accuracy, class means",
]


def test_mean_cosine_of_equal_and_of_orthogonal_rows():
    same = np.ones((3, 4, 2)) / np.sqrt(2)
    assert mean_cosine(same) == pytest.approx(1)
    assert mean_cosine(np.eye(4)[None]) == pytest.approx(0)


def test_supervised_accuracy_equals_cross_validation_by_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [8, 12, 16]))
    tokens = rng.normal(size=(36, 5, 4)).astype(np.float32) + 0.3 * labels[:, None, None]
    flat = StandardScaler().fit_transform(tokens.reshape(36, -1))
    expected = []
    for model in (KNeighborsClassifier(1), NearestCentroid()):
        found = cross_val_predict(model, flat, labels, cv=4)
        expected.append(np.mean(found == labels))
    assert supervised_accuracy(tokens, labels) == pytest.approx(expected)
    assert min(expected) > 0.4
    assert max(expected) < 1


def test_classes_with_few_clips_are_allowed():
    tokens = np.eye(5, dtype=np.float32)[:, None] * 9
    assert supervised_accuracy(tokens, np.arange(5)) == (0, 0)
    assert supervised_accuracy(tokens[[0, 0, 0, 4]], np.array([0, 0, 0, 1])) == (0.75, 0.75)
    assert supervised_accuracy(tokens[:1], np.array([0])) == (0, 0)


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
def test_a_method_without_attention_has_only_the_measures_of_tokens(trained, make):
    run = make(trained[1])
    assert list(diagnose(run, unseen_task(run))) == OF_TOKENS


def test_many_clips_are_subsampled_and_non_finite_ones_are_set_to_zero(trained, monkeypatch):
    run = trained[1]
    tokens = np.array(run.tokens, np.float32)
    tokens[run.protocol.unseen_test[[1, 2]]] = np.nan
    broken = dataclasses.replace(run, tokens=tokens)
    assert np.isfinite(list(diagnose(broken, unseen_task(broken)).values())).all()
    monkeypatch.setattr(diagnosis, "MAX_CLIPS", 4)
    seen = []
    monkeypatch.setattr(
        diagnosis, "supervised_accuracy", lambda *given: seen.append(given) or (0.0, 0.0)
    )
    diagnose(run, unseen_task(run))
    [(tokens, labels)] = seen
    shown = run.protocol.unseen_test[[0, 2, 4, 7]]
    np.testing.assert_array_equal(tokens, run.tokens[shown])
    np.testing.assert_array_equal(labels, unseen_task(run).labels[[0, 2, 4, 7]])
