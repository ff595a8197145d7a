"""Stream orders, and predictions on them."""

import jax
import numpy as np
import pytest

from dynapurls_jax.adaptation.api import run_stream
from dynapurls_jax.evaluation.streams import StreamInputs, predict_streams, stream_order
from dynapurls_jax.evaluation.tasks import orders_of, predict_order, setup_of, unseen_task
from dynapurls_jax.rng import key_of
from tests.helpers.runs import changed

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [20, 30, 20, 25, 20]))


def test_a_shuffled_stream_has_every_sample_once():
    order = stream_order("shuffled", LABELS, seed=3, number=1)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(LABELS)))
    np.testing.assert_array_equal(order, stream_order("shuffled", LABELS, seed=3, number=1))
    assert not np.array_equal(order, stream_order("shuffled", LABELS, seed=3, number=2))
    assert not np.array_equal(order, stream_order("shuffled", LABELS, seed=4, number=1))


def test_a_blocked_stream_has_one_block_for_each_class():
    order = stream_order("blocked", LABELS, seed=0, number=0)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(LABELS)))
    labels = LABELS[order]
    assert np.sum(labels[1:] != labels[:-1]) == 4


def test_skewed_streams_have_class_ratios_of_ten_to_one_and_equal_lengths():
    orders = [stream_order("skewed", LABELS, seed=0, number=number) for number in range(4)]
    assert len({len(order) for order in orders}) == 1
    for order in orders:
        assert len(np.unique(order)) == len(order)
        counts = np.sort(np.bincount(LABELS[order]))
        np.testing.assert_array_equal(counts, [2, 4, 6, 11, 20])
    firsts = {int(np.bincount(LABELS[order]).argmax()) for order in orders}
    assert len(firsts) > 1


def test_an_unknown_stream_is_refused():
    with pytest.raises(ValueError, match="did you mean 'skewed'"):
        stream_order("skewd", LABELS, 0, 0)


@pytest.mark.parametrize(
    "name",
    ["adanpc", *(pytest.param(n, marks=pytest.mark.slow) for n in ("balanced", "dynapurls"))],
)
def test_each_order_has_its_own_initial_state_and_key(trained, name):
    run = changed(trained[1], {"adapter.name": name, "eval.chunk": 3, "eval.orders": 3})
    task, setup = unseen_task(run), setup_of(run)
    orders = orders_of(run, task.labels)
    adapter = setup.adapter(setup.method(run.variables, task.features, len(task.labels)))
    streams = predict_streams(adapter, task.inputs, orders, run.seed, chunk=3)
    for number, order in enumerate(orders):
        shuffled = jax.tree.map(lambda leaf, order=order: leaf[order], task.features)
        key = key_of(run.seed, "stream", number)
        state = adapter.init(task.candidates, key=key)
        _, alone = run_stream(adapter, state, shuffled, chunk=3)
        np.testing.assert_array_equal(streams.predicted[number], alone.label)
        np.testing.assert_allclose(streams.confidence[number], alone.confidence, rtol=1e-5)
        np.testing.assert_array_equal(streams.admitted[number], alone.admitted)
        np.testing.assert_array_equal(streams.adapted[number], alone.adapted)


def test_inactive_classes_are_not_predicted(trained):
    run = changed(trained[1], {"adapter.name": "static"})
    classes, clips = np.arange(8), np.arange(20)
    active = np.arange(8) % 2 == 0
    inputs = StreamInputs(run.features_of(clips), run.candidates_of(classes), active)
    setup = setup_of(run)
    adapter = setup.adapter(setup.method(run.variables, inputs.features, len(clips)))
    assert active[predict_streams(adapter, inputs, [clips], 0).predicted].all()


def test_runs_of_equal_shapes_share_a_compiled_program(trained):
    run = changed(trained[1], {"adapter.name": "adanpc", "eval.chunk": 2})
    task, setup = unseen_task(run), setup_of(run)
    orders = orders_of(run, task.labels)
    adapter = setup.adapter(setup.method(run.variables, task.features, len(task.labels)))
    streams = predict_streams(adapter, task.inputs, orders, run.seed, chunk=2)
    programs = predict_order._cache_size()
    for number, order in enumerate(orders):
        variables = jax.tree.map(lambda leaf: leaf * 1.0, run.variables)
        key = key_of(run.seed, "stream", number)
        labels = predict_order(setup_of(run), variables, task.inputs, order, key)
        np.testing.assert_array_equal(labels, streams.predicted[number])
    assert predict_order._cache_size() == programs + 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"eval.stream": "shufled"}, "eval: unknown stream 'shufled'; did you mean 'shuffled'"),
        ({"eval.orders": 0}, "eval: orders: expected 1 or more, got 0"),
        ({"eval.chunk": 0}, "eval: chunk: expected 1 or more, got 0"),
    ],
)
def test_wrong_settings_are_refused(trained, kind, message):
    run = changed(trained[1], kind)
    with pytest.raises(ValueError, match=message):
        orders_of(run, np.zeros(4, int))
