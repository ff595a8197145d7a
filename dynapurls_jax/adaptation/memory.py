"""The class-balanced memory of section 3.4.2, in fixed shapes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


class Memory(NamedTuple):
    """Up to `K` samples of each class.

    Attributes:
      priority: of each slot: the lowest leaves. Minus infinity where it is empty, plus infinity
        where it may not be used.
      samples: what is kept of each, any pytree with leaves `[C, K, ...]`; of `dynapurls` tokens
        and keys, so that nothing is encoded again.
    """

    priority: Float[Array, "C K"]
    samples: Any

    @property
    def filled(self) -> Bool[Array, "C K"]:
        """Which slots hold a sample."""
        return jnp.isfinite(self.priority)


def empty_memory(
    classes: int, slots: int, sample: Any, capacity: float | int | Array | None = None
) -> Memory:
    """A memory without samples.

    Args:
      classes: `C`.
      slots: `K`, a shape.
      sample: what is kept of one; gives the shapes.
      capacity: how many of the slots may be used, all by default. May be traced, so that one
        compiled program can try several.
    """
    usable = jnp.arange(slots) < (slots if capacity is None else capacity)
    return Memory(
        priority=jnp.tile(jnp.where(usable, -jnp.inf, jnp.inf), (classes, 1)),
        samples=jax.tree.map(
            lambda leaf: jnp.zeros((classes, slots, *leaf.shape), leaf.dtype), sample
        ),
    )


def insert(
    memory: Memory,
    labels: Int[Array, " B"],
    priority: Float[Array, " B"],
    samples: Any,
    admit: Bool[Array, " B"],
) -> Memory:
    """Algorithm 1, for a chunk: each class keeps the `K` highest of what it has and what comes.

    The outcome is that of inserting one after the other, but for who stays of equally high ones,
    which Algorithm 1 leaves open: here those that are held, then the first newcomers. Instead of
    sorting, every newcomer counts who is better than it, B (K + B) comparisons, and only those that
    stay are written.

    Args:
      priority: finite.
      samples: what is to be kept, with leaves `[B, ...]`.
      admit: the others are ignored.
    """
    slots = memory.priority.shape[1]
    held = memory.priority[labels]  # [B, K]
    arrival = jnp.arange(len(labels))
    rival = admit & (labels == labels[:, None])  # [B, B]: who competes with me for my class
    ahead = (priority > priority[:, None]) | (
        (priority == priority[:, None]) & (arrival < arrival[:, None])
    )
    better = jnp.sum(held >= priority[:, None], axis=1) + jnp.sum(rival & ahead, axis=1)
    stays = admit & (better < slots)
    # The first that stays takes the lowest slot, the second the next lowest, and so on.
    turn = jnp.sum(rival & stays & (arrival < arrival[:, None]), axis=1)
    slot = jnp.where(stays, jnp.argmax(_ascending(held) == turn[:, None], axis=1), slots)
    return Memory(
        priority=memory.priority.at[labels, slot].set(priority, mode="drop"),
        samples=jax.tree.map(
            lambda kept, new: kept.at[labels, slot].set(new, mode="drop"), memory.samples, samples
        ),
    )


def _ascending(values: Float[Array, "B K"]) -> Int[Array, "B K"]:
    """The rank of each value in its row, 0 for the lowest; of equal ones the first is lower."""
    place = jnp.arange(values.shape[1])
    below = values[:, None, :] < values[:, :, None]
    tied = (values[:, None, :] == values[:, :, None]) & (place < place[:, None])
    return jnp.sum(below | tied, axis=-1)


class Batch(NamedTuple):
    """A class-balanced batch: as many draws from each class that has any sample.

    Attributes:
      samples: with leaves `[B, ...]`.
      labels: the pseudo-labels.
      weight: 1 for a real draw, 0 for one from an empty class or slot.
    """

    samples: Any
    labels: Int[Array, " B"]
    weight: Float[Array, " B"]


def balanced_batch(memory: Memory, key: PRNGKeyArray, per_class: int) -> Batch:
    """Draws the same number of samples, with replacement, from every class that has some.

    A class's draws do not depend on how many classes there are.

    Args:
      per_class: draws of each class; 0 for everything that is held, which needs no chance.
    """
    classes, slots = memory.priority.shape
    if per_class == 0:
        return Batch(
            samples=jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), memory.samples),
            labels=jnp.repeat(jnp.arange(classes), slots),
            weight=memory.filled.reshape(-1).astype(jnp.float32),
        )
    counts = memory.filled.sum(axis=1)  # slots fill from the first on, so these are a prefix
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(classes))
    draw = jax.vmap(lambda key, count: jax.random.randint(key, (per_class,), 0, count))
    chosen = draw(keys, jnp.maximum(counts, 1))
    labels = jnp.repeat(jnp.arange(classes), per_class)
    return Batch(
        samples=jax.tree.map(lambda leaf: leaf[labels, chosen.reshape(-1)], memory.samples),
        labels=labels,
        weight=jnp.repeat(counts > 0, per_class).astype(jnp.float32),
    )
