"""What holds for every test-time method: streams are continued, interrupted, changed, damaged."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynapurls_jax.adaptation import (
    AdaNpcSettings,
    BalancedSettings,
    CalipSettings,
    Gate,
    RefineSettings,
    TdaSettings,
    TentSettings,
    TptSettings,
    adanpc,
    adapter_of,
    add_class,
    balanced,
    calip,
    dynapurls,
    gated,
    reset,
    residual_prompt,
    retire_class,
    run_stream,
    static,
    tda,
    tent,
    tpt,
    with_capacity,
)
from dynapurls_jax.adaptation.classes import class_axes
from dynapurls_jax.training.checkpoints import Checkpoints
from tests.helpers.small_model import first, part, small_model, small_text, small_tokens

COUNT = 30
REFINE = RefineSettings(min_samples=4, slots=3, horizon=None, learning_rate=0.03)
BALANCED = BalancedSettings(window=12, trust=1.0)
METHODS = {
    "static": lambda model, variables, one: static(model, variables),
    "dynapurls": lambda model, variables, one: dynapurls(model, variables, one, REFINE),
    "dynapurls quantile": lambda model, variables, one: dynapurls(
        model,
        variables,
        one,
        RefineSettings(**(vars(REFINE) | {"threshold_kind": "quantile", "threshold": 0.3})),
    ),
    "dynapurls balanced recent": lambda model, variables, one: dynapurls(
        model,
        variables,
        one,
        RefineSettings(**(vars(REFINE) | {"targets": "balanced", "keep": "recent"})),
    ),
    "balanced": lambda model, variables, one: balanced(model, variables, BALANCED),
    "tent": lambda model, variables, one: tent(model, variables, TentSettings(0.01)),
    "tda": lambda model, variables, one: tda(model, variables, TdaSettings(possible_from=0.2)),
    "adanpc": lambda model, variables, one: adanpc(
        model, variables, AdaNpcSettings(neighbours=6, slots=5, threshold=0.3)
    ),
    "calip": lambda model, variables, one: calip(model, variables, CalipSettings()),
    "tpt": lambda model, variables, one: tpt(
        model, variables, TptSettings(views=8, share=0.5), residual_prompt(model)
    ),
    "gated": lambda model, variables, one: gated(
        model,
        variables,
        Gate("entropy", 1.0, 0.064),
        dynapurls(model, variables, one, REFINE),
        balanced(model, variables, BALANCED),
        seen=(0, 1),
    ),
}
LEARNING = [name for name in METHODS if name not in ("static", "calip", "tpt")]
every_method = pytest.mark.parametrize("name", METHODS)
every_query = pytest.mark.parametrize("query", ["label_free", "per_candidate"])


@cache
def setup(name, query="label_free"):
    """Adapter, text, stream; the same adapter for all tests, so that each compiles less."""
    model, variables, text = small_model(query)
    visual = model.encode(variables, small_tokens(COUNT))
    return adapter_of(METHODS[name](model, variables, first(visual))), text, visual


def assert_same(a, b):
    """Bit by bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b, atol=1e-4):
    """Up to rounding."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


@every_query
@every_method
def test_one_scan_equals_a_loop_of_steps(name, query):
    adapter, text, visual = setup(name, query)
    whole, together = run_stream(adapter, adapter.init(text), visual, chunk=4)
    state, step, answers = adapter.init(text), jax.jit(adapter.step), []
    for start in range(0, COUNT, 4):
        state, answer = step(state, part(visual, start, start + 4))
        answers.append(answer)
    looped = jax.tree.map(lambda *leaves: np.concatenate(leaves), *answers)
    np.testing.assert_array_equal(looped.label, together.label)
    np.testing.assert_allclose(looped.logits, together.logits, atol=1e-3)
    assert_close(state.own, whole.own, 1e-3)
    assert int(whole.samples) == COUNT


@every_method
def test_a_stream_saved_and_restored_goes_on_bit_by_bit(name, tmp_path):
    adapter, text, visual = setup(name)
    start = adapter.init(text, key=jax.random.key(7))
    middle, _ = run_stream(adapter, start, part(visual, 15))
    end, expected = run_stream(adapter, middle, part(visual, 15, None))
    checkpoints = Checkpoints(tmp_path / "state")
    checkpoints.save(int(middle.samples), middle)
    checkpoints.close()
    # Another process would know nothing but how to make a fresh state of the same shapes.
    again = Checkpoints(tmp_path / "state")
    restored = again.restore(jax.eval_shape(lambda: adapter.init(text)))
    again.close()
    assert_same(restored, middle)
    assert_same(run_stream(adapter, restored, part(visual, 15, None)), (end, expected))


@every_method
def test_continued_equals_uninterrupted(name):
    adapter, text, visual = setup(name)
    whole, predicted = run_stream(adapter, adapter.init(text), visual)
    middle, before = run_stream(adapter, adapter.init(text), part(visual, 15))
    end, after = run_stream(adapter, middle, part(visual, 15, None))
    np.testing.assert_array_equal(np.concatenate([before.label, after.label]), predicted.label)
    assert_close(end.own, whole.own, 1e-4)


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_samples_that_are_no_numbers_change_nothing_and_are_counted(data):
    name = data.draw(st.sampled_from(sorted(METHODS)))
    chunk = data.draw(st.sampled_from([1, 5]))
    where = data.draw(st.lists(st.integers(0, COUNT), min_size=4, max_size=4))
    value = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    adapter, text, visual = setup(name)
    # Chunks of bad samples beside chunks of good ones: the good ones must not notice.
    places = np.repeat(np.sort(where) // chunk * chunk, chunk)
    is_bad = np.insert(np.zeros(COUNT, bool), places, True)
    damaged = jax.tree.map(lambda leaf: np.insert(np.asarray(leaf), places, value, axis=0), visual)
    clean, expected = run_stream(adapter, adapter.init(text), visual, chunk=chunk)
    state, prediction = run_stream(adapter, adapter.init(text), damaged, chunk=chunk)
    np.testing.assert_array_equal(prediction.skipped, is_bad)
    assert (np.asarray(prediction.label)[is_bad] == -1).all()
    assert (np.asarray(prediction.confidence)[is_bad] == 0).all()
    assert int(state.skipped) == is_bad.sum()
    assert int(state.samples) == len(is_bad)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.text))
    np.testing.assert_array_equal(np.asarray(prediction.label)[~is_bad], expected.label)
    assert_close(state.own, clean.own)


@every_method
def test_one_bad_sample_in_a_chunk_leaves_no_trace(name):
    adapter, text, visual = setup(name)
    state, _ = run_stream(adapter, adapter.init(text), part(visual, 12), chunk=4)
    mixed = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), part(visual, 12, 16))
    other = jax.tree.map(lambda leaf: leaf.at[1].set(-jnp.inf), part(visual, 12, 16))
    step = jax.jit(adapter.step)
    (a, p), (b, _) = step(state, mixed), step(state, other)
    assert_same(a, b)  # whatever it held
    assert p.skipped.tolist() == [False, True, False, False]
    empty = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), part(visual, 12, 16))
    assert_same(step(state, empty)[0].own, state.own)


@every_query
@every_method
def test_free_slots_are_as_if_they_were_not_there(name, query):
    adapter, text, visual = setup(name, query)
    _, expected = run_stream(adapter, adapter.init(text), visual, chunk=2)
    roomy, active = with_capacity(text, 7)
    _, prediction = run_stream(adapter, adapter.init(roomy, active), visual, chunk=2)
    np.testing.assert_array_equal(prediction.label, expected.label)
    np.testing.assert_allclose(prediction.logits[:, :4], expected.logits, atol=2e-3)
    assert (np.asarray(prediction.logits)[:, 4:] == -np.inf).all()
    np.testing.assert_allclose(prediction.confidence, expected.confidence, atol=1e-3)


@every_query
@every_method
def test_classes_come_and_go_without_compiling_again(name, query):
    adapter, text, visual = setup(name, query)
    roomy, active = with_capacity(text, 6)
    state, _ = run_stream(adapter, adapter.init(roomy, active), part(visual, 10))
    compiled = run_stream._cache_size()
    rows = small_text(1, seed=9).classes[0]
    state, slot = add_class(adapter, state, rows)
    assert slot == 4
    state, prediction = run_stream(adapter, state, part(visual, 10, 20))
    there = jnp.isfinite(prediction.logits)
    assert_same(there[:, 4], there[:, 3])  # behind a gate it is on the same side
    assert there[:, 4].any() if name == "gated" else there.all(where=state.active)
    state = retire_class(adapter, state, 1)
    state, prediction = run_stream(adapter, state, part(visual, 20, 30))
    assert not (np.asarray(prediction.label) == 1).any()
    assert (np.asarray(prediction.logits)[:, 1] == -np.inf).all()
    assert run_stream._cache_size() == compiled
    state, slot = add_class(adapter, state, rows)
    assert slot == 1  # the free one is taken again
    fresh = adapter.init(state.text, state.active)
    for axes, now, new in zip(
        class_axes(adapter, state.text),
        jax.tree.leaves(state.own),
        jax.tree.leaves(fresh.own),
        strict=True,
    ):
        for axis in axes:  # nothing of the retired class is left
            assert_same(jnp.take(now, 1, axis), jnp.take(new, 1, axis))


@every_method
def test_a_class_added_later_is_a_class_with_nothing_remembered_from_the_start(name):
    """Added before the first sample it is as good as there; later, all others keep theirs."""
    adapter, text, visual = setup(name)
    three = text._replace(classes=text.classes[:3])
    roomy, active = with_capacity(three, 4)
    state, slot = add_class(adapter, adapter.init(roomy, active), text.classes[3])
    assert slot == 3
    assert_same(run_stream(adapter, state, visual), run_stream(adapter, adapter.init(text), visual))
    before, _ = run_stream(adapter, adapter.init(roomy, active), part(visual, 15))
    after, _ = add_class(adapter, before, text.classes[3])
    for axes, old, new in zip(
        class_axes(adapter, text),
        jax.tree.leaves(before.own),
        jax.tree.leaves(after.own),
        strict=True,
    ):
        for axis in axes:
            old, new = (jnp.take(leaf, jnp.arange(3), axis) for leaf in (old, new))
        assert_same(old, new)


def test_classes_are_refused_with_a_reason():
    adapter, text, _ = setup("dynapurls")
    state = adapter.init(text)
    with pytest.raises(ValueError, match="all 4 slots are taken"):
        add_class(adapter, state, text.classes[0])
    with pytest.raises(ValueError, match="slot 9 holds no class"):
        retire_class(adapter, state, 9)
    with pytest.raises(ValueError, match=r"expected \(8, 7\) finite numbers"):
        add_class(adapter, retire_class(adapter, state, 0), text.classes[0].at[0].set(jnp.nan))
    for slot in (0, 1, 2):
        state = retire_class(adapter, state, slot)
    with pytest.raises(ValueError, match="the last class"):
        retire_class(adapter, state, 3)
    with pytest.raises(ValueError, match="capacity: expected 4 or more"):
        with_capacity(text, 3)


@pytest.mark.parametrize("name", LEARNING)
def test_reset_returns_to_the_static_text(name):
    adapter, text, visual = setup(name)
    state, _ = run_stream(adapter, adapter.init(text), visual)
    model, variables, _ = small_model()
    still = adapter_of(static(model, variables))
    _, expected = run_stream(still, still.init(text), part(visual, 1))
    back = reset(adapter, state)
    assert int(back.samples) == COUNT
    _, prediction = run_stream(adapter, back, part(visual, 1))
    answered = np.isfinite(prediction.logits)  # of a gate's two sides one
    p, static_p = (jax.nn.softmax(one.logits[answered]) for one in (prediction, expected))
    np.testing.assert_allclose(p, static_p, atol=1e-4)
    assert answered.any()


@pytest.mark.parametrize("name", LEARNING)
def test_it_learns_something_and_the_key_decides_alone(name):
    adapter, text, visual = setup(name)

    def run(seed):
        return run_stream(adapter, adapter.init(text, key=jax.random.key(seed)), visual)

    (a, x), (b, y) = run(0), run(0)
    assert_same((a, x), (b, y))
    assert x.adapted.any()
    fresh = adapter.init(text)
    assert any(
        not np.array_equal(now, new)
        for now, new in zip(jax.tree.leaves(a.own), jax.tree.leaves(fresh.own), strict=True)
    )


@every_method
def test_streams_vmap(name):
    model, variables, text = small_model()
    visual = model.encode(variables, jnp.stack([small_tokens(12, seed) for seed in range(3)]))
    one = jax.tree.map(lambda leaf: leaf[0, 0], visual)
    adapter = adapter_of(METHODS[name](model, variables, one))
    _, together = jax.vmap(lambda v: run_stream(adapter, adapter.init(text), v))(visual)
    for i in range(3):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], visual)
        _, alone = run_stream(adapter, adapter.init(text), mine)
        np.testing.assert_array_equal(together.label[i], alone.label)


def test_static_equals_batched_scoring_and_never_adapts():
    model, variables, text = small_model("per_candidate", "weighted")
    visual = model.encode(variables, small_tokens(9))
    adapter = adapter_of(static(model, variables))
    _, prediction = run_stream(adapter, adapter.init(text), visual)
    np.testing.assert_allclose(prediction.logits, model.score(variables, visual, text), atol=1e-4)
    assert not prediction.adapted.any()
    assert not prediction.admitted.any()
