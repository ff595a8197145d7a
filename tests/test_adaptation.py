"""The memory and the refinement, against plain Python and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynapurls_jax.adaptation import RefineSettings, dynapurls, run_stream, static
from dynapurls_jax.adaptation.dynapurls import Refinement, refine
from dynapurls_jax.adaptation.memory import balanced_batch, empty_memory, insert
from dynapurls_jax.alignment.model import make_model, mean_text
from dynapurls_jax.alignment.partition import Text, Visual, unit

S, N, H, D, G = 4, 6, 5, 7, 8


def _stream(count, seed=0):
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(count, 1, N))  # tokens of a sample are alike, so samples differ
    return jnp.asarray(whole + 0.3 * rng.normal(size=(count, S, N)), jnp.float32)


def _text(classes, seed=1):
    rng = np.random.default_rng(seed)
    rows = unit(jnp.asarray(rng.normal(size=(classes, G, D)), jnp.float32))
    return Text(rows, mean_text(rows))


def _model(query="label_free", score="global", classes=4):
    model = make_model(query=query, head="row", score=score, text_width=D, attention=H, hidden=16)
    tokens, text = _stream(30), _text(classes)
    return model, model.init(jax.random.key(0), tokens, text), text


offers = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 9).map(lambda n: n / 10),  # ties are common
        st.booleans(),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(offers)
def test_memory_equals_plain_python_step_by_step(stream):
    capacity = 3
    sample = Visual(jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    memory = empty_memory(3, capacity, sample)
    plain = {c: [] for c in range(3)}  # (confidence, number of the sample), oldest first
    put = jax.jit(insert)
    for number, (label, confidence, admit) in enumerate(stream):
        visual = jax.tree.map(lambda leaf, number=number: leaf + number, sample)
        memory = put(memory, jnp.array(label), jnp.array(confidence), visual, jnp.array(admit))
        if admit:
            plain[label].append((np.float32(confidence), number))
            if len(plain[label]) > capacity:  # the lowest leaves
                plain[label].remove(min(plain[label]))
        for c in range(3):
            filled = np.asarray(memory.filled[c])
            held = zip(
                np.asarray(memory.confidence[c])[filled],
                np.asarray(memory.visual.tokens[c, :, 0, 0])[filled],
                strict=True,
            )
            held = sorted(held)
            # Which of equally confident samples stays is left open by Algorithm 1.
            assert [conf for conf, _ in held] == sorted(conf for conf, _ in plain[c])
            offered = [(np.float32(p), n) for n, (y, p, ok) in enumerate(stream) if y == c and ok]
            assert set(held) <= set(offered)
            if len({conf for conf, _ in offered}) == len(offered):
                assert held == sorted(plain[c])
            assert filled.sum() <= capacity


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 99))
def test_balanced_batch_draws_each_filled_class_equally_and_no_other(labels, seed):
    sample = Visual(jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    memory = empty_memory(4, 2, sample)
    for label in labels:
        visual = jax.tree.map(lambda leaf, label=label: leaf + 100 + label, sample)
        memory = insert(memory, jnp.array(label), jnp.array(0.5), visual, jnp.array(True))
    batch = balanced_batch(memory, jax.random.key(seed), per_class=3)
    for c in range(4):
        own = np.asarray(batch.labels) == c
        assert own.sum() == 3
        weights = np.asarray(batch.weight)[own]
        assert (weights == (1 if c in labels else 0)).all()
        if c in labels:  # never an empty slot, never another class's sample
            assert (np.asarray(batch.visual.tokens)[own] == 100 + c).all()


def _algorithm_1(model, variables, text, tokens, s: RefineSettings, key):
    """Algorithm 1 in plain Python: lists for the memory, one step at a time."""
    schedule = optax.cosine_decay_schedule(s.learning_rate, s.horizon)
    optimizer = optax.adam(schedule)
    theta = Refinement(jnp.ones_like(text.classes), jnp.zeros_like(text.classes))
    opt_state = optimizer.init(theta)
    classes = len(text.classes)
    slots: list[list] = [[None] * s.capacity for _ in range(classes)]
    visual = model.encode(variables, tokens)
    predictions = []
    for i in range(len(tokens)):
        one = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], visual)
        p = np.asarray(jax.nn.softmax(model.score(variables, one, refine(text, theta))[0]))
        label = int(p.argmax())
        predictions.append(label)
        if p[label] > s.threshold:
            bank = slots[label]
            if None in bank:
                bank[bank.index(None)] = (p[label], i)
            else:
                lowest = min(range(s.capacity), key=lambda k: bank[k][0])
                if p[label] > bank[lowest][0]:
                    bank[lowest] = (p[label], i)
        if sum(entry is not None for bank in slots for entry in bank) < s.min_samples:
            continue
        # The same draws as the scan: only the source of randomness is shared with it.
        counts = jnp.array([[sum(entry is not None for entry in bank)] for bank in slots])
        drawn = jax.random.randint(
            jax.random.fold_in(key, i), (classes, s.per_class), 0, jnp.maximum(counts, 1)
        )
        batch = [
            (slots[c][int(k)][1], c)
            for c in range(classes)
            for k in drawn[c]
            if slots[c][int(k)] is not None
        ]
        chosen = jnp.array([index for index, _ in batch])
        pseudo = jnp.array([c for _, c in batch])

        def loss(theta, chosen=chosen, pseudo=pseudo):
            rows = jax.tree.map(lambda leaf: leaf[chosen], visual)
            log_p = jax.nn.log_softmax(model.score(variables, rows, refine(text, theta)))
            return -jnp.mean(log_p[jnp.arange(len(pseudo)), pseudo])

        updates, opt_state = optimizer.update(jax.grad(loss)(theta), opt_state)
        theta = optax.apply_updates(theta, updates)
    return predictions, theta


@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
@pytest.mark.parametrize("score", ["global", "weighted"])
def test_scan_equals_algorithm_1_in_plain_python(query, score):
    model, variables, text = _model(query, score)
    tokens, key = _stream(25, seed=3), jax.random.key(5)
    visual = model.encode(variables, tokens)
    confidence = jax.nn.softmax(model.score(variables, visual, text)).max(axis=-1)
    chosen = RefineSettings(
        learning_rate=0.02,
        horizon=25,
        capacity=4,
        threshold=float(jnp.median(confidence)),
        min_samples=3,
        per_class=2,
    )
    sample = jax.tree.map(lambda leaf: leaf[0], visual)
    adapter = dynapurls(model, variables, sample, chosen, key)
    state, prediction = run_stream(adapter, adapter.init(text), visual)
    expected, theta = _algorithm_1(model, variables, text, tokens, chosen, key)
    np.testing.assert_array_equal(prediction.label, expected)
    rows = model.rows  # without a gradient, the rows that are not scored stay as they began
    np.testing.assert_allclose(state.refinement.scale, theta.scale[:, :rows], atol=2e-5)
    np.testing.assert_allclose(state.refinement.bias, theta.bias[:, :rows], atol=2e-5)
    np.testing.assert_array_equal(theta.scale[:, rows:], 1)
    np.testing.assert_array_equal(theta.bias[:, rows:], 0)
    assert 0 < prediction.adapted.sum() < 25  # both before and after B_min
    assert 0 < prediction.admitted.sum() < 25  # the threshold kept something out


def test_scan_equals_the_same_steps_in_a_loop_and_streams_can_be_continued():
    model, variables, text = _model()
    visual = model.encode(variables, _stream(30))
    sample = jax.tree.map(lambda leaf: leaf[0], visual)
    adapter = dynapurls(model, variables, sample, RefineSettings(min_samples=4), jax.random.key(0))
    whole, predicted = run_stream(adapter, adapter.init(text), visual)
    state, step = adapter.init(text), jax.jit(adapter.step)
    looped = []
    for i in range(30):
        state, prediction = step(state, jax.tree.map(lambda leaf, i=i: leaf[i], visual))
        looped.append(prediction)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped)
    np.testing.assert_array_equal(stacked.label, predicted.label)
    np.testing.assert_allclose(stacked.logits, predicted.logits, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), state.refinement, whole.refinement
    )
    half = (
        jax.tree.map(lambda leaf: leaf[:15], visual),
        jax.tree.map(lambda leaf: leaf[15:], visual),
    )
    middle, first = run_stream(adapter, adapter.init(text), half[0])
    end, second = run_stream(adapter, middle, half[1])
    np.testing.assert_array_equal(np.concatenate([first.label, second.label]), predicted.label)
    np.testing.assert_allclose(end.refinement.bias, whole.refinement.bias, atol=1e-5)


def test_same_seed_same_result_bit_for_bit():
    model, variables, text = _model()
    visual = model.encode(variables, _stream(30))
    sample = jax.tree.map(lambda leaf: leaf[0], visual)

    def run(seed):
        adapter = dynapurls(
            model, variables, sample, RefineSettings(min_samples=4), jax.random.key(seed)
        )
        return run_stream(adapter, adapter.init(text), visual)

    (a, x), (b, y), (c, _) = run(0), run(0), run(1)
    jax.tree.map(np.testing.assert_array_equal, (a, x), (b, y))
    assert not np.array_equal(a.refinement.bias, c.refinement.bias)


def test_static_equals_batched_scoring_and_never_adapts():
    model, variables, text = _model("per_candidate", "weighted")
    visual = model.encode(variables, _stream(9))
    adapter = static(model, variables)
    _, prediction = run_stream(adapter, adapter.init(text), visual)
    np.testing.assert_allclose(prediction.logits, model.score(variables, visual, text), atol=1e-4)
    assert not prediction.adapted.any()
    assert not prediction.admitted.any()


def test_threshold_above_one_filters_everything_and_the_text_stays():
    model, variables, text = _model()
    visual = model.encode(variables, _stream(20))
    sample = jax.tree.map(lambda leaf: leaf[0], visual)
    adapter = dynapurls(model, variables, sample, RefineSettings(threshold=1.1), jax.random.key(0))
    state, prediction = run_stream(adapter, adapter.init(text), visual)
    assert not prediction.admitted.any()
    assert not prediction.adapted.any()
    np.testing.assert_array_equal(state.refinement.scale, 1)
    np.testing.assert_array_equal(state.refinement.bias, 0)


def test_adapters_vmap_over_streams():
    model, variables, text = _model()
    streams = jnp.stack([_stream(12, seed) for seed in range(3)])
    visual = model.encode(variables, streams)
    sample = jax.tree.map(lambda leaf: leaf[0, 0], visual)
    adapter = dynapurls(model, variables, sample, RefineSettings(min_samples=2), jax.random.key(0))
    _, together = jax.vmap(lambda v: run_stream(adapter, adapter.init(text), v))(visual)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], visual)
        _, alone = run_stream(adapter, adapter.init(text), one)
        np.testing.assert_array_equal(together.label[i], alone.label)
