"""Properties of every test-time method: continued streams, changes of classes, damaged samples.

Programs take longer to compile than to run. Therefore streams are loops of one compiled step; the
first test shows that they equal `run_stream`.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.adanpc import AdaNpcSettings, adanpc
from dynapurls_jax.adaptation.api import Adapter, StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.calip import CalipSettings, calip
from dynapurls_jax.adaptation.centred_scores import CentredScoresSettings, centred_scores
from dynapurls_jax.adaptation.class_slots import (
    add_class,
    class_axes,
    reset,
    retire_class,
    with_capacity,
)
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.gated import Gate, gated
from dynapurls_jax.adaptation.recentred import RecentredSettings, recentred
from dynapurls_jax.adaptation.skeleton_cache import SkeletonCacheSettings, skeleton_cache
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.adaptation.tda import TdaSettings, tda
from dynapurls_jax.adaptation.tent import TentSettings, tent
from dynapurls_jax.adaptation.tpt import TptSettings, tpt_residual
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.zero_shot.base import Candidates
from tests.helpers.cases import cases
from tests.helpers.small_model import KINDS, part, small_model, small_tokens

COUNT, HALF, CHUNK = 24, 12, 4
REFINE = DynaPurlsSettings(min_samples=4, capacity=3, learning_rate=0.03, eviction="least_recent")
BALANCED = BalancedSettings(window=12, prior_count=1.0, sinkhorn_iterations=2)
RECENTRED = RecentredSettings(window=12, prior_count=1.0, sinkhorn_iterations=2, mean_count=2.0)
NEIGHBOURS = AdaNpcSettings(neighbours=6, capacity=5, threshold=0.3)
CACHE = SkeletonCacheSettings(capacity=3)
METHODS = {
    "static": static,
    "dynapurls": lambda m, v, info=None: dynapurls(m, v, REFINE, info),
    "balanced": lambda m, v, info=None: balanced(m, v, BALANCED, info),
    "recentred": lambda m, v, info=None: recentred(m, v, RECENTRED, info),
    "centred_scores": lambda m, v, info=None: centred_scores(m, v, CentredScoresSettings(4.0)),
    "tent": lambda m, v, info=None: tent(m, v, TentSettings(0.01)),
    "tda": lambda m, v, info=None: tda(m, v, TdaSettings(mask_threshold=0.2), info),
    "skeleton_cache": lambda m, v, info=None: skeleton_cache(m, v, CACHE, info),
    "adanpc": lambda m, v, info=None: adanpc(m, v, NEIGHBOURS),
    "calip": lambda m, v, info=None: calip(m, v, CalipSettings()),
    "tpt": lambda m, v, info=None: tpt_residual(m, v, TptSettings(views=8, confident_share=0.5)),
    "gated": lambda m, v, info=None: gated(
        m,
        v,
        Gate("entropy", 1.0, 0.064),
        tent(m, v, TentSettings(0.01)),
        balanced(m, v, BALANCED, info),
        seen=(0, 1),
    ),
}
OF_TOKENS = ("calip", "tpt")
LEARNING = [name for name in METHODS if name not in ("static", *OF_TOKENS)]
LABEL_FREE = [(name, "label_free") for name in METHODS]
PAIRS = [
    (name, kind) for name in METHODS for kind in KINDS if kind != "ridge" or name not in OF_TOKENS
]
every_pair = pytest.mark.parametrize(("name", "kind"), cases(LABEL_FREE, PAIRS))
vector_views = [("dynapurls", "ridge"), ("tda", "ridge"), ("tda", "per_candidate")]
every_method = pytest.mark.parametrize("name", METHODS)


class Setup(NamedTuple):
    """An adapter with its compiled step, candidates and a stream."""

    adapter: Adapter
    step: Any
    candidates: Candidates
    features: Any

    def start(self, active=None, key=0):
        return self.adapter.init(self.candidates, active, jax.random.key(key))

    def run(self, state, *where):
        """Runs a part of the stream, chunk by chunk."""
        features, predictions = part(self.features, *where), []
        for start in range(0, len(jax.tree.leaves(features)[0]), CHUNK):
            state, prediction = self.step(state, part(features, start, start + CHUNK))
            predictions.append(prediction)
        return state, jax.tree.map(lambda *leaves: np.concatenate(leaves), *predictions)


@cache
def setup(name, kind="label_free"):
    """A cached adapter for all tests, so that each program is compiled once."""
    model, variables, candidates = small_model(kind)
    features = model.encode(variables, small_tokens(COUNT))
    info = StreamInfo.of(features, COUNT, CHUNK)
    adapter = adapter_of(METHODS[name](model, variables, info=info))
    step = jax.jit(adapter.step)
    return Setup(adapter, step, candidates, jax.device_get(features))


def assert_same(a, b):
    """Bit by bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b, atol=1e-4):
    """Up to rounding."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


SOME = [("balanced", "per_candidate"), ("dynapurls", "ridge"), ("tda", "label_free")]


@pytest.mark.parametrize(
    ("name", "kind"), cases([*SOME, ("tent", "label_free"), ("adanpc", "ridge")], PAIRS)
)
def test_one_scan_equals_a_loop_of_steps_continued_by_a_scan(name, kind):
    s = setup(name, kind)
    rest = COUNT - HALF - 3  # the last chunk is smaller
    whole, predicted = run_stream(s.adapter, s.start(), part(s.features, COUNT - 3), chunk=CHUNK)
    middle, before = s.run(s.start(), HALF)
    end, after = run_stream(s.adapter, middle, part(s.features, HALF, HALF + rest), chunk=CHUNK)
    np.testing.assert_array_equal(np.concatenate([before.label, after.label]), predicted.label)
    logits = np.concatenate([before.logits, after.logits])
    np.testing.assert_allclose(logits, predicted.logits, atol=1e-3)
    assert_close(end.inner_state, whole.inner_state)
    assert int(end.samples) == int(whole.samples) == COUNT - 3


@pytest.mark.parametrize(("name", "kind"), cases([*LABEL_FREE, ("balanced", "ridge")], PAIRS))
def test_a_stream_saved_and_restored_continues_bit_by_bit(name, kind, tmp_path):
    s = setup(name, kind)
    middle, _ = s.run(s.start(key=7), HALF)
    end, expected = s.run(middle, HALF, None)
    checkpoints = Checkpoints(tmp_path / "state")
    checkpoints.save(int(middle.samples), middle)
    checkpoints.close()
    # Another process has only a fresh state of the same shapes.
    again = Checkpoints(tmp_path / "state")
    restored = again.restore(jax.eval_shape(s.start))
    again.close()
    assert_same(restored, middle)
    assert_same(s.run(restored, HALF, None), (end, expected))


@every_pair
def test_samples_that_are_not_finite_change_nothing_and_are_counted(name, kind):
    s, rng = setup(name, kind), np.random.default_rng(0)
    # Whole chunks are bad or good, so that the chunks of good samples do not change.
    places = np.repeat(np.sort(rng.integers(0, HALF // CHUNK + 1, 3)) * CHUNK, CHUNK)
    is_bad = np.insert(np.zeros(HALF, bool), places, True)
    values = rng.choice([np.nan, np.inf, -np.inf], is_bad.sum())

    def damaged(leaf):
        return np.insert(np.asarray(leaf), places, values.reshape(-1, *[1] * (leaf.ndim - 1)), 0)

    clean, expected = s.run(s.start(), HALF)
    bad = s._replace(features=jax.tree.map(damaged, part(s.features, HALF)))
    state, prediction = bad.run(s.start(), COUNT)
    np.testing.assert_array_equal(prediction.skipped, is_bad)
    assert (np.asarray(prediction.label)[is_bad] == -1).all()
    assert (np.asarray(prediction.confidence)[is_bad] == 0).all()
    assert int(state.skipped) == is_bad.sum()
    assert int(state.samples) == COUNT
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.candidates))
    np.testing.assert_array_equal(np.asarray(prediction.label)[~is_bad], expected.label)
    assert_close(state.inner_state, clean.inner_state)


@every_method
def test_one_bad_sample_in_a_chunk_has_no_effect(name):
    s = setup(name)
    state, _ = s.run(s.start(), HALF)
    chunk = part(s.features, HALF, HALF + CHUNK)

    def damaged(value):
        second = np.arange(CHUNK) == 1
        return jax.tree.map(
            lambda leaf: np.where(second.reshape(-1, *[1] * (leaf.ndim - 1)), value, leaf), chunk
        )

    mixed, other = damaged(np.float32("nan")), damaged(np.float32("-inf"))
    (a, p), (b, _) = s.step(state, mixed), s.step(state, other)
    assert_same(a, b)  # for any values of the bad sample
    assert p.skipped.tolist() == [False, True, False, False]
    empty = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), chunk)
    assert_same(s.step(state, empty)[0].inner_state, state.inner_state)


@pytest.mark.parametrize(("name", "kind"), cases([*LABEL_FREE, *vector_views], PAIRS))
def test_predictions_do_not_depend_on_free_slots(name, kind):
    s = setup(name, kind)
    three = s._replace(candidates=s.candidates._replace(classes=s.candidates.classes[:3]))
    three = three._replace(step=jax.jit(s.adapter.step))
    _, expected = three.run(three.start(), HALF)
    candidates, active = with_capacity(three.candidates, 4)
    _, prediction = s.run(s._replace(candidates=candidates).start(active), HALF)
    np.testing.assert_array_equal(prediction.label, expected.label)
    np.testing.assert_allclose(prediction.logits[:, :3], expected.logits, atol=2e-3)
    assert (np.asarray(prediction.logits)[:, 3] == -np.inf).all()
    np.testing.assert_allclose(prediction.confidence, expected.confidence, atol=1e-3)


@pytest.mark.parametrize(("name", "kind"), cases([*LABEL_FREE, *vector_views], PAIRS))
def test_classes_are_added_and_retired_without_recompilation(name, kind):
    s = setup(name, kind)
    vectors = s.candidates.classes[3]
    state, _ = s.run(s.start(jnp.arange(4) < 3), HALF)
    compiled = s.step._cache_size()
    state, slot = add_class(s.adapter, state, vectors)
    assert slot == 3
    state, prediction = s.run(state, HALF)
    finite = jnp.isfinite(prediction.logits)
    assert_same(finite[:, 3], finite[:, 2])  # of one side of a gate
    assert finite[:, 3].any() if name == "gated" else finite.all()
    state = retire_class(s.adapter, state, 1)
    state, prediction = s.run(state, HALF, None)
    assert not (np.asarray(prediction.label) == 1).any()
    assert (np.asarray(prediction.logits)[:, 1] == -np.inf).all()
    assert s.step._cache_size() == compiled
    state, slot = add_class(s.adapter, state, vectors)
    assert slot == 1  # the free one
    fresh = s.adapter.init(state.candidates, state.active)
    leaves = map(jax.tree.leaves, (state.inner_state, fresh.inner_state))
    for axes, now, new in zip(class_axes(s.adapter, state.candidates), *leaves, strict=True):
        for axis in axes:  # nothing of the retired class is left
            assert_same(np.take(np.asarray(now), 1, axis), np.take(np.asarray(new), 1, axis))


@every_method
def test_a_class_added_first_equals_one_from_the_start_and_others_keep_their_state(name):
    s = setup(name)
    vectors = s.candidates.classes[3]
    candidates, active = with_capacity(s.candidates._replace(classes=s.candidates.classes[:3]), 4)
    three = s._replace(candidates=candidates)
    state, slot = add_class(s.adapter, three.start(active), vectors)
    assert slot == 3
    assert_same(s.run(state, HALF), s.run(s.start(), HALF))
    before, _ = s.run(three.start(active), HALF)
    after, _ = add_class(s.adapter, before, vectors)
    leaves = map(jax.tree.leaves, (before.inner_state, after.inner_state))
    for axes, old, new in zip(class_axes(s.adapter, s.candidates), *leaves, strict=True):
        for axis in axes:
            old, new = (np.take(np.asarray(leaf), np.arange(3), axis) for leaf in (old, new))
        assert_same(old, new)


@pytest.mark.parametrize("name", ["dynapurls", "balanced", "recentred", "static"])
def test_all_classes_are_replaced_in_any_order(name):
    s = setup(name)
    state = s.start()
    for slot in range(4):
        state = retire_class(s.adapter, state, slot)
    assert not state.active.any()
    state, slots = reset(s.adapter, state), []
    for vectors in s.candidates.classes:
        state, slot = add_class(s.adapter, state, vectors)
        slots.append(slot)
    assert slots == [0, 1, 2, 3]
    assert_same(s.run(state, HALF), s.run(s.start(), HALF))


def test_impossible_changes_of_classes_are_errors():
    s = setup("dynapurls")
    state, vectors = s.start(), s.candidates.classes[0]
    with pytest.raises(ValueError, match="all 4 slots are taken"):
        add_class(s.adapter, state, vectors)
    with pytest.raises(ValueError, match="slot 9 holds no class; slots with a class"):
        retire_class(s.adapter, state, 9)
    with pytest.raises(ValueError, match=r"expected finite values of shape \(8, 7\)"):
        add_class(s.adapter, retire_class(s.adapter, state, 0), vectors.at[0].set(jnp.nan))
    with pytest.raises(ValueError, match="all 2 slots are taken"):
        add_class(s.adapter, state, vectors, jnp.arange(4) < 2)
    with pytest.raises(ValueError, match="capacity: expected 4 or more"):
        with_capacity(s.candidates, 3)


@pytest.mark.parametrize("name", [name for name in LEARNING if name != "recentred"])
def test_reset_returns_to_the_static_predictions(name):  # `recentred` never gives them
    s, still = setup(name), setup("static")
    state, _ = s.run(s.start(), HALF)
    chunk = part(s.features, CHUNK)
    _, expected = still.step(still.start(), chunk)
    back = reset(s.adapter, state)
    assert int(back.samples) == HALF
    _, prediction = s.step(back, chunk)
    finite = np.isfinite(prediction.logits)  # with a gate, those of one side
    p, static_p = (
        jax.nn.softmax(jnp.where(finite, one.logits, -jnp.inf)) for one in (prediction, expected)
    )
    np.testing.assert_allclose(p, static_p, atol=1e-4)
    assert finite.any()


@pytest.mark.parametrize("name", LEARNING)
def test_learning_changes_the_state_and_depends_only_on_the_key(name):
    s = setup(name)
    (a, x), (b, y) = s.run(s.start(), HALF), s.run(s.start(), HALF)
    assert_same((a, x), (b, y))
    assert x.adapted.any()
    leaves = map(jax.tree.leaves, (a.inner_state, s.start().inner_state))
    assert any(not np.array_equal(now, new) for now, new in zip(*leaves, strict=True))


@pytest.mark.slow
@every_method
def test_streams_vmap(name):
    model, variables, candidates = small_model()
    tokens = jnp.stack([small_tokens(12, seed) for seed in range(3)])
    features = model.encode(variables, tokens)
    s = setup(name)

    def run(features):
        return run_stream(s.adapter, s.adapter.init(candidates), features, chunk=CHUNK)[1]

    together = jax.jit(jax.vmap(run))(features)
    for i in range(3):
        alone = run(jax.tree.map(lambda leaf, i=i: leaf[i], features))
        np.testing.assert_array_equal(together.label[i], alone.label)


def test_static_equals_batched_scoring_and_never_adapts():
    model, variables, candidates = small_model("per_candidate", "weighted")
    features = model.encode(variables, small_tokens(8))
    adapter = adapter_of(static(model, variables))
    _, prediction = run_stream(adapter, adapter.init(candidates), features)
    expected = jax.jit(model.score)(variables, features, candidates)
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-4)
    assert not prediction.adapted.any()
    assert not prediction.admitted.any()


@pytest.mark.parametrize("name", ["static", "balanced", "dynapurls"])
def test_a_stream_shorter_than_a_chunk_is_one_chunk(name):
    s = setup(name)
    features = part(s.features, 0, 3)
    state, found = run_stream(s.adapter, s.start(), features, chunk=8)
    expected_state, expected = run_stream(s.adapter, s.start(), features, chunk=3)
    assert_same((state, found), (expected_state, expected))
