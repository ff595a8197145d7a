"""The class-balanced memory against plain Python."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynapurls_jax.adaptation.memory import (
    balanced_batch,
    below,
    draw_words,
    empty_memory,
    insert,
)

CAPACITY, CHUNK = 3, 8
inserted = jax.jit(insert)


@partial(jax.jit, static_argnums=2)
def drawn_batch(memory, key, per_class):
    """A batch drawn with a key."""
    words = draw_words(key, len(memory.priority), per_class) if per_class else None
    return balanced_batch(memory, words, per_class)


offers = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 9).map(lambda n: n / 10),  # ties are common
        st.booleans(),
    ),
    max_size=40,
)


def sample():
    """A sample with two arrays."""
    return {"x": jnp.zeros((1, 1)), "y": jnp.zeros(2)}


def offer(memory, chunk):
    """Inserts `(label, priority, admitted, number)`s, with others that are not admitted."""
    padded = [*chunk, *[(0, 1.0, False, -1)] * (CHUNK - len(chunk))]  # one compiled shape
    labels, priority, admitted, numbers = (np.array(column) for column in zip(*padded, strict=True))
    values = np.float32(numbers)[:, None]
    samples = {"x": values[..., None], "y": np.repeat(values, 2, axis=1)}
    return inserted(memory, labels, np.float32(priority), samples, admitted)


def stored(memory, label):
    """Sorted `(priority, number)` of a class."""
    filled = np.asarray(memory.filled[label])
    numbers = np.asarray(memory.samples["x"][label, :, 0, 0])
    np.testing.assert_array_equal(memory.samples["y"][label, :, 0], numbers)
    pairs = zip(np.asarray(memory.priority[label])[filled], numbers[filled], strict=True)
    return sorted((float(priority), int(number)) for priority, number in pairs)


def plain(chunks):
    """Algorithm 1 with lists: the stored `(priority, number)` of each class after all chunks."""
    bank = {c: [] for c in range(3)}
    for label, priority, admitted, number in (one for chunk in chunks for one in chunk):
        if admitted:
            bank[label].append((float(np.float32(priority)), number))
            if len(bank[label]) > CAPACITY:  # evict the lowest, of equal ones the newest
                lowest = min(bank[label], key=lambda pair: (pair[0], -pair[1]))
                bank[label].remove(lowest)
    return {c: sorted(pairs) for c, pairs in bank.items()}


@given(offers, st.sampled_from([1, 2, 5, 8]))
def test_memory_equals_plain_python_after_each_chunk(stream, size):
    numbered = [(*one, number) for number, one in enumerate(stream)]
    chunks = [numbered[i : i + size] for i in range(0, len(numbered), size)]
    memory = empty_memory(3, CAPACITY, sample())
    for done in range(len(chunks)):
        memory = offer(memory, chunks[done])
        expected = plain(chunks[: done + 1])
        for c in range(3):
            now = stored(memory, c)
            assert [p for p, _ in now] == [p for p, _ in expected[c]]
            offered = [(float(np.float32(p)), n) for y, p, ok, n in numbered if y == c and ok]
            assert set(now) <= set(offered)
            if len({p for p, _ in offered}) == len(offered):  # Algorithm 1 does not specify ties
                assert now == expected[c]
            filled = np.asarray(memory.filled[c])
            assert filled[: filled.sum()].all()  # a prefix, as draws require


@given(st.permutations(range(6)), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_the_order_within_a_chunk_does_not_matter(order, labels):
    chunk = [(labels[i], 0.1 * i, True, i) for i in range(6)]  # no ties: they depend on the order
    before = offer(empty_memory(3, 2, sample()), [(0, 0.25, True, 7), (1, 0.35, True, 8)])
    straight, shuffled = offer(before, chunk), offer(before, [chunk[i] for i in order])
    for c in range(3):
        assert stored(straight, c) == stored(shuffled, c)


@given(offers.filter(bool))
def test_fewer_usable_places_equal_a_smaller_memory(stream):
    chunk = [(*one, number) for number, one in enumerate(stream)]
    small = empty_memory(3, 2, sample())
    masked = empty_memory(3, CAPACITY, sample(), jnp.array(2))
    for i in range(0, len(chunk), 5):
        small, masked = offer(small, chunk[i : i + 5]), offer(masked, chunk[i : i + 5])
    for c in range(3):
        assert stored(small, c) == stored(masked, c)
    key = jax.random.key(0)
    a, b = drawn_batch(small, key, 3), drawn_batch(masked, key, 3)
    np.testing.assert_array_equal(a.samples["x"], b.samples["x"])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.integers(0, 99))
def test_balanced_batch_draws_each_filled_class_equally_and_no_other(labels, seed):
    memory = offer(empty_memory(3, 2, sample()), [(y, 0.5, True, 100 + y) for y in labels])
    for per_class in (3, 0):  # 0: all stored samples
        batch = drawn_batch(memory, jax.random.key(seed), per_class)
        for c in range(3):
            of_class = np.asarray(batch.labels) == c
            weights = np.asarray(batch.weight)[of_class]
            count = min(labels.count(c), 2)
            assert weights.sum() == (count if per_class == 0 else 3 * (count > 0))
            drawn = np.asarray(batch.samples["x"])[of_class][weights > 0]
            assert (drawn == 100 + c).all()  # never an empty place, never another class's sample


def test_draws_of_a_class_do_not_depend_on_the_number_of_classes():
    chunk = [(c, 0.1 * i, True, 10 * c + i) for c in range(2) for i in range(3)]
    few, many = empty_memory(3, CAPACITY, sample()), empty_memory(5, CAPACITY, sample())
    few, many = offer(few, chunk), offer(many, chunk)
    key = jax.random.key(3)
    small, large = (drawn_batch(memory, key, 3).samples["x"] for memory in (few, many))
    np.testing.assert_array_equal(small, large[: len(small)])


@pytest.mark.parametrize("most", [1, 3, 16, 70_000])
def test_draws_are_those_of_randint(most):
    key, counts = jax.random.key(most), jnp.arange(12) * 7919 % most + 1
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(12))
    expected = jax.vmap(lambda key, count: jax.random.randint(key, (5,), 0, count))(keys, counts)
    np.testing.assert_array_equal(below(draw_words(key, 12, 5), counts[:, None]), expected)
