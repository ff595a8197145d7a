"""Cross-validation over classes: the data of a fold, and the number of epochs it selects."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynapurls_jax.training import epoch_program, epochs, fold_program
from dynapurls_jax.training.folds import TESTED, folds_of, shuffled
from dynapurls_jax.training.mesh import mesh_for
from dynapurls_jax.training.method_task import Samples
from dynapurls_jax.training.stages import NonFiniteError
from tests.helpers.fit_case import CLASSES, small_task, trained


@given(classes=st.integers(2, 20), folds=st.integers(0, 6), seed=st.integers(0, 3))
def test_folds_divide_classes_and_samples(classes, folds, seed):
    task = replace(small_task(classes, folds=folds), seed=seed)
    found, labels = folds_of(task), np.asarray(task.train.labels)
    assert len(found.held) == (min(folds, classes // 2) if classes >= 4 else 0)
    assert len(np.unique(found.held)) == found.held.size  # held out once at most
    for kept, held, train, test in zip(*found, strict=True):
        assert sorted([*kept, *held]) == list(range(classes))
        assert min(len(kept), len(held)) >= 2
        for chosen, indices in ((kept, train), (held, test)):
            expected = np.flatnonzero(np.isin(labels, chosen))
            assert sorted(indices[indices >= 0]) == list(expected)


def test_large_folds_are_tested_on_some_of_their_samples():
    found = folds_of(small_task(samples=8 * TESTED, folds=2))
    assert found.test.shape == (2, TESTED)


def test_shuffled_indices_contain_no_padding():
    indices = jnp.array([4, -1, 7, 2, -1, 9])
    orders = {tuple(np.asarray(shuffled(jax.random.key(n), indices, 4))) for n in range(9)}
    assert len(orders) > 3
    assert all(sorted(order) == [2, 4, 7, 9] for order in orders)


def after_one_epoch(task):
    mesh, folds = mesh_for(task.batch_size, "batch"), folds_of(task)
    data = epochs.data_of(task, mesh)
    state = fold_program.fresh_folds(task, folds, jax.random.key(0), data)
    rate, most = jnp.float32(task.settings.learning_rate), jnp.int32(1)
    run = epoch_program.Run(jax.random.key(1), rate, most, folds)
    return jax.jit(fold_program.fold_program(task, mesh).epoch)(state, run, data)[0]


def test_a_fold_does_not_learn_from_its_held_out_classes():
    """Other texts and another order of tokens of these classes do not change its parameters."""
    task = small_task()
    held = folds_of(task).held[1]
    of_held = np.flatnonzero(np.isin(task.train.labels, held))
    tokens, text = np.array(task.train.tokens), np.array(task.text)
    tokens[of_held] = tokens[of_held[::-1]]
    text[held] = text[held[::-1]]
    other = replace(task, train=Samples(tokens, task.train.labels), text=text)
    one, two = (after_one_epoch(t).trained.variables["params"]["matrix"] for t in (task, other))
    np.testing.assert_allclose(one[1], two[1], atol=1e-5)  # means of tokens, in another order
    assert np.abs(one[0] - two[0]).max() > 1e-3  # other folds train on them


def test_the_result_is_the_model_of_all_classes_after_the_best_epoch(tmp_path):
    """It equals a model that is trained on all classes for that number of epochs."""
    variables, results = trained(small_task(epochs=30, patience=30), tmp_path / "chosen")
    assert 0 < results["best_epoch"] < results["epochs"] == 30
    fixed = small_task(folds=0, epochs=results["best_epoch"])
    again, others = trained(fixed, tmp_path / "fixed")
    assert others["best_epoch"] == results["best_epoch"]
    assert others["val_accuracy"] == results["val_accuracy"]
    jax.tree.map(np.testing.assert_array_equal, variables, again)


def test_training_stops_when_the_held_out_accuracy_does_not_rise(tmp_path):
    results = trained(small_task(epochs=40, patience=2), tmp_path / "run")[1]
    assert results["epochs"] == results["best_epoch"] + 2 < 40


def test_a_fold_that_diverges_is_named(tmp_path):
    task = small_task()

    def loss(variables, batch, text, *rest):
        whole = method_loss(variables, batch, text, *rest)
        return whole if len(text) == CLASSES else whole * np.nan

    method_loss = task.method.loss
    task = replace(task, method=task.method._replace(loss=loss))
    with pytest.raises(NonFiniteError, match=r"step 0 of epoch 1 of fold 0 \(fit\.folds\) is not"):
        trained(task, tmp_path / "run")
