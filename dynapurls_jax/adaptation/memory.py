"""The class-balanced memory of section 3.4.2, in fixed shapes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32


class Memory(NamedTuple):
    """Up to `K` samples of each class.

    Attributes:
      priority: of each sample; the lowest is evicted. Minus infinity for an empty place, plus
        infinity for a place that may not be used.
      samples: a pytree with leaves `[C, K, ...]`; features in `dynapurls`, so that no sample is
        encoded again.
    """

    priority: Float[Array, "C K"]
    samples: Any

    @property
    def filled(self) -> Bool[Array, "C K"]:
        """Which places hold a sample."""
        return jnp.isfinite(self.priority)


def empty_memory(
    classes: int, places: int, sample: Any, capacity: float | int | Array | None = None
) -> Memory:
    """A memory without samples.

    Args:
      classes: `C`.
      places: `K`, allocated for each class.
      sample: one stored sample, or its shapes.
      capacity: number of places of a class that may be used, all by default. May be traced, so that
        one compiled program can run several.
    """
    usable = jnp.arange(places) < (places if capacity is None else capacity)
    return Memory(
        priority=jnp.tile(jnp.where(usable, -jnp.inf, jnp.inf), (classes, 1)),
        samples=jax.tree.map(
            lambda leaf: jnp.zeros((classes, places, *leaf.shape), leaf.dtype), sample
        ),
    )


def insert(
    memory: Memory,
    labels: Int[Array, " B"],
    priority: Float[Array, " B"],
    samples: Any,
    admitted: Bool[Array, " B"],
) -> Memory:
    """Algorithm 1 for a chunk: each class keeps the `K` highest of its stored and new samples.

    The result equals that of sequential insertion, except for ties, which Algorithm 1 does not
    specify: here stored samples have precedence, then earlier new ones. Instead of a sort, the
    samples of higher priority are counted for each new sample, in B (K + B) comparisons, and only
    samples that stay are written.

    Args:
      labels: the class of each sample.
      priority: finite.
      samples: with leaves `[B, ...]`.
      admitted: the other samples are ignored.
    """
    places = memory.priority.shape[1]
    stored = memory.priority[labels]  # [B, K]
    if len(labels) == 1:  # the lowest leaves, if it is lower
        stays = admitted[0] & (stored.min() < priority[0])
        where = [labels[0].astype(jnp.int32), jnp.argmin(stored).astype(jnp.int32)]
        return _replaced(memory, where, stays, Memory(priority, samples))
    arrival = jnp.arange(len(labels))
    rival = admitted & (labels == labels[:, None])  # [B, B]: new samples of the same class
    ahead = (priority > priority[:, None]) | (
        (priority == priority[:, None]) & (arrival < arrival[:, None])
    )
    better = jnp.sum(stored >= priority[:, None], axis=1) + jnp.sum(rival & ahead, axis=1)
    stays = admitted & (better < places)
    # The first that stays takes the lowest place, the second the next lowest, and so on.
    turn = jnp.sum(rival & stays & (arrival < arrival[:, None]), axis=1)
    place = jnp.where(stays, jnp.argmax(_ranks(stored) == turn[:, None], axis=1), places)
    return jax.tree.map(
        lambda old, new: old.at[labels, place].set(new, mode="drop"),
        memory,
        Memory(priority, samples),
    )


def _replaced(memory: Memory, where: list[Array], stays: Array, new: Memory) -> Memory:
    """The memory with one new sample at a place `(label, place)`, if it stays."""

    def written(old: Array, new: Array) -> Array:
        start = [*where, *[jnp.int32(0)] * (old.ndim - 2)]
        before = jax.lax.dynamic_slice(old, start, (1, 1, *old.shape[2:]))
        after = jnp.where(stays, new[None].astype(old.dtype), before)
        return jax.lax.dynamic_update_slice(old, after, start)

    return jax.tree.map(written, memory, new)


def insert_latest(
    memory: Memory,
    labels: Int[Array, " B"],
    samples: Any,
    usable: Bool[Array, " B"],
    admitted: Bool[Array, " B"],
) -> Memory:
    """`insert` with the time of arrival as priority: the oldest sample is evicted.

    Args:
      usable: the samples that advance the time; they include the admitted ones.
    """
    # Ages, not times: float32 could not represent the times of a long stream.
    memory = memory._replace(priority=memory.priority - usable.sum())
    return insert(memory, labels, jnp.cumsum(usable).astype(jnp.float32), samples, admitted)


def _ranks(values: Float[Array, "B K"]) -> Int[Array, "B K"]:
    """The rank of each value in its row, 0 for the lowest; of equal ones the first is lower."""
    place = jnp.arange(values.shape[1])
    below = values[:, None, :] < values[:, :, None]
    tied = (values[:, None, :] == values[:, :, None]) & (place < place[:, None])
    return jnp.sum(below | tied, axis=-1)


class Batch(NamedTuple):
    """A class-balanced batch: the same number of draws from each class that has a sample.

    Attributes:
      samples: with leaves `[B, ...]`.
      labels: the pseudo-labels.
      weight: 1 for a real draw, 0 for one from an empty class or place.
    """

    samples: Any
    labels: Int[Array, " B"]
    weight: Float[Array, " B"]


def draw_words(
    key: PRNGKeyArray, classes: int, per_class: int
) -> UInt32[Array, "2 classes per_class"]:
    """Random words for `balanced_batch`: those of `jax.random.randint` for the key of each class.

    The draws of a class do not depend on the number of classes.
    """

    def words(number: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, number))
        return jnp.stack([jax.random.bits(key, (per_class,), jnp.uint32) for key in keys])

    return jax.vmap(words, out_axes=1)(jnp.arange(classes))


def balanced_batch(
    memory: Memory, words: UInt32[Array, "2 classes per_class"] | None, per_class: int
) -> Batch:
    """Draws the same number of samples, with replacement, from every class that has any.

    Args:
      words: from `draw_words`; None if `per_class` is 0.
      per_class: draws from each class; 0 for all stored samples, without randomness.
    """
    classes, places = memory.priority.shape
    if words is None:
        return Batch(
            samples=jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), memory.samples),
            labels=jnp.repeat(jnp.arange(classes), places),
            weight=memory.filled.reshape(-1).astype(jnp.float32),
        )
    counts = memory.filled.sum(axis=1)  # places are filled from the first on: a prefix
    drawn = below(words, jnp.maximum(counts, 1)[:, None])
    labels = jnp.repeat(jnp.arange(classes), per_class)
    return Batch(
        samples=jax.tree.map(lambda leaf: leaf[labels, drawn.reshape(-1)], memory.samples),
        labels=labels,
        weight=jnp.repeat(counts > 0, per_class).astype(jnp.float32),
    )


def below(words: UInt32[Array, "2 *shape"], bound: Int[Array, "..."]) -> Int[Array, "*shape"]:
    """Integers in `[0, bound)`, as `jax.random.randint` computes them from two random words."""
    bound = bound.astype(jnp.uint32)
    high, low = words
    remainder = (1 << 16) % bound
    remainder = remainder * remainder % bound  # of 2^32
    return ((high % bound * remainder + low % bound) % bound).astype(jnp.int32)
