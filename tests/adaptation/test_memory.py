"""The class-balanced memory against plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynapurls_jax.adaptation.memory import balanced_batch, empty_memory, insert
from dynapurls_jax.zero_shot.nn.partition import VisualFeatures

CAPACITY = 3
offers = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 9).map(lambda n: n / 10),  # ties are common
        st.booleans(),
    ),
    max_size=40,
)


def sample(number=0.0):
    """A sample that can be told from others."""
    return VisualFeatures(jnp.full((1, 1), number), jnp.full((1, 1), number))


def offer(memory, chunk):
    """Inserts `(label, priority, admit, number)`s as one chunk, in one compiled shape a length."""
    labels, priority, admit, numbers = (np.array(column) for column in zip(*chunk, strict=True))
    visual = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[sample(float(number)) for number in numbers]
    )
    return jax.jit(insert)(
        memory, jnp.array(labels), jnp.array(priority, jnp.float32), visual, jnp.array(admit)
    )


def held(memory, label):
    """Sorted `(priority, number)` of a class."""
    filled = np.asarray(memory.filled[label])
    pairs = zip(
        np.asarray(memory.priority[label])[filled].tolist(),
        np.asarray(memory.samples.tokens[label, :, 0, 0])[filled].astype(int).tolist(),
        strict=True,
    )
    return sorted(pairs)


def plain(chunks):
    """Algorithm 1 with lists: who is held of each class, `(priority, number)`, after all."""
    bank = {c: [] for c in range(3)}
    for label, priority, admit, number in (one for chunk in chunks for one in chunk):
        if admit:
            bank[label].append((float(np.float32(priority)), number))
            if len(bank[label]) > CAPACITY:  # the lowest leaves, of equal ones the newest
                lowest = min(bank[label], key=lambda pair: (pair[0], -pair[1]))
                bank[label].remove(lowest)
    return {c: sorted(pairs) for c, pairs in bank.items()}


@settings(deadline=None, max_examples=60)
@given(offers, st.sampled_from([1, 2, 5, 8]))
def test_memory_equals_plain_python_after_each_chunk(stream, size):
    numbered = [(*one, number) for number, one in enumerate(stream)]
    chunks = [numbered[i : i + size] for i in range(0, len(numbered), size)]
    memory = empty_memory(3, CAPACITY, sample())
    for done in range(len(chunks)):
        memory = offer(memory, chunks[done])
        expected = plain(chunks[: done + 1])
        for c in range(3):
            now = held(memory, c)
            assert [p for p, _ in now] == [p for p, _ in expected[c]]
            offered = [(np.float32(p), n) for y, p, ok, n in numbered if y == c and ok]
            assert set(now) <= {(float(p), n) for p, n in offered}
            if len({p for p, _ in offered}) == len(offered):  # ties are left open by Algorithm 1
                assert now == expected[c]
            filled = np.asarray(memory.filled[c])
            assert filled[: filled.sum()].all()  # a prefix: draws rely on it


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(6)), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_a_chunk_is_a_set(order, labels):
    chunk = [(labels[i], 0.1 * i, True, i) for i in range(6)]  # no ties: who came first is open
    before = offer(empty_memory(3, 2, sample()), [(0, 0.25, True, 7), (1, 0.35, True, 8)])
    straight, shuffled = offer(before, chunk), offer(before, [chunk[i] for i in order])
    for c in range(3):
        assert held(straight, c) == held(shuffled, c)


@settings(deadline=None, max_examples=20)
@given(offers.filter(bool), st.integers(1, 3))
def test_fewer_usable_slots_equal_a_smaller_memory(stream, capacity):
    chunk = [(*one, number) for number, one in enumerate(stream)]
    small = empty_memory(3, capacity, sample())
    masked = empty_memory(3, 4, sample(), jnp.array(capacity))
    for i in range(0, len(chunk), 5):
        small, masked = offer(small, chunk[i : i + 5]), offer(masked, chunk[i : i + 5])
    for c in range(3):
        assert held(small, c) == held(masked, c)
    key = jax.random.key(0)
    a, b = balanced_batch(small, key, 4), balanced_batch(masked, key, 4)
    np.testing.assert_array_equal(a.samples.tokens, b.samples.tokens)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(0, 99))
def test_balanced_batch_draws_each_filled_class_equally_and_no_other(labels, seed):
    memory = empty_memory(3, 2, sample())
    for label in labels:
        memory = offer(memory, [(label, 0.5, True, 100 + label)])
    for per_class in (3, 0):  # 0: everything that is held
        batch = balanced_batch(memory, jax.random.key(seed), per_class)
        for c in range(3):
            own = np.asarray(batch.labels) == c
            weights = np.asarray(batch.weight)[own]
            count = min(labels.count(c), 2)
            expected = count if per_class == 0 else 3 * (count > 0)
            assert weights.sum() == expected
            drawn = np.asarray(batch.samples.tokens)[own][weights > 0]
            assert (drawn == 100 + c).all()  # never an empty slot, never another class's sample


def test_draws_of_a_class_do_not_depend_on_the_number_of_classes():
    chunk = [(c, 0.1 * i, True, 10 * c + i) for c in range(3) for i in range(3)]
    few, many = empty_memory(3, 3, sample()), empty_memory(5, 3, sample())
    few, many = offer(few, chunk), offer(many, chunk)
    key = jax.random.key(3)
    small, large = (balanced_batch(memory, key, 4).samples.tokens for memory in (few, many))
    np.testing.assert_array_equal(small, large[: len(small)])


def test_nothing_but_a_number_gets_in():
    memory = offer(empty_memory(3, 2, sample()), [(0, 0.5, False, 1), (1, 0.5, True, 2)])
    assert held(memory, 0) == []
    assert held(memory, 1) == [(pytest.approx(0.5), 2)]
