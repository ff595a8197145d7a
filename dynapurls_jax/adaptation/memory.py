"""The class-balanced memory of section 3.4.2, in fixed shapes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


class Memory(NamedTuple):
    """Up to `K` samples of each class.

    Attributes:
      priority: of each sample; the lowest is evicted. Minus infinity for an empty place, plus
        infinity for a place that may not be used.
      samples: a pytree with leaves `[C, K, ...]`; of `dynapurls` the features, so that nothing is
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
      capacity: how many of the places may be used, all by default. May be traced, so that one
        compiled program can try several.
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

    The outcome is that of one insertion after the other, except for ties, which Algorithm 1 leaves
    open: here stored samples stay, then the first new ones. Instead of a sort, every new sample
    counts the better ones, B (K + B) comparisons, and only those that stay are written.

    Args:
      labels: the class of each sample.
      priority: finite.
      samples: with leaves `[B, ...]`.
      admitted: the other samples are ignored.
    """
    places = memory.priority.shape[1]
    stored = memory.priority[labels]  # [B, K]
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
    return Memory(
        priority=memory.priority.at[labels, place].set(priority, mode="drop"),
        samples=jax.tree.map(
            lambda old, new: old.at[labels, place].set(new, mode="drop"), memory.samples, samples
        ),
    )


def insert_latest(
    memory: Memory,
    labels: Int[Array, " B"],
    samples: Any,
    usable: Bool[Array, " B"],
    admitted: Bool[Array, " B"],
) -> Memory:
    """`insert` with the time of arrival as priority: the oldest sample is evicted.

    Args:
      usable: the samples that count as time; at least the admitted ones.
    """
    # Ages, not times: a float would run out of times.
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


def balanced_batch(memory: Memory, key: PRNGKeyArray, per_class: int) -> Batch:
    """Draws the same number of samples, with replacement, from every class that has any.

    The draws of a class do not depend on the number of classes.

    Args:
      per_class: draws from each class; 0 for all stored samples, without randomness.
    """
    classes, places = memory.priority.shape
    if per_class == 0:
        return Batch(
            samples=jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), memory.samples),
            labels=jnp.repeat(jnp.arange(classes), places),
            weight=memory.filled.reshape(-1).astype(jnp.float32),
        )
    counts = memory.filled.sum(axis=1)  # places are filled from the first on: a prefix
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(classes))
    draw = jax.vmap(lambda key, count: jax.random.randint(key, (per_class,), 0, count))
    drawn = draw(keys, jnp.maximum(counts, 1))
    labels = jnp.repeat(jnp.arange(classes), per_class)
    return Batch(
        samples=jax.tree.map(lambda leaf: leaf[labels, drawn.reshape(-1)], memory.samples),
        labels=labels,
        weight=jnp.repeat(counts > 0, per_class).astype(jnp.float32),
    )
