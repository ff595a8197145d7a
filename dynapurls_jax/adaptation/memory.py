"""The class-balanced memory of section 3.4.2, in fixed shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dynapurls_jax.alignment.partition import Visual


class Memory(NamedTuple):
    """Up to `K` samples of each class.

    Attributes:
      confidence: of each slot; minus infinity where it is empty.
      visual: tokens `[C, K, S, n]` and keys `[C, K, S, h]`, so that nothing is encoded again.
    """

    confidence: Float[Array, "C K"]
    visual: Visual

    @property
    def filled(self) -> Bool[Array, "C K"]:
        """Which slots hold a sample."""
        return jnp.isfinite(self.confidence)


def empty_memory(classes: int, capacity: int, sample: Visual) -> Memory:
    """A memory without samples; `sample` gives the shapes of one."""
    return Memory(
        confidence=jnp.full((classes, capacity), -jnp.inf),
        visual=jax.tree.map(
            lambda leaf: jnp.zeros((classes, capacity, *leaf.shape), leaf.dtype), sample
        ),
    )


def insert(
    memory: Memory,
    label: Int[Array, ""],
    confidence: Float[Array, ""],
    visual: Visual,
    admit: Bool[Array, ""],
) -> Memory:
    """Algorithm 1: the sample joins its class; if that makes `K + 1`, the least confident leaves.

    A newcomer as low as the lowest leaves itself, so that a full class only changes for the
    better; among equally low ones held, that of the first slot leaves. An empty slot counts as the
    least confident of all, which makes both cases one replacement.
    """
    slot = jnp.argmin(memory.confidence[label])
    replaced = memory.confidence[label, slot]
    write = admit & (confidence > replaced)
    return Memory(
        confidence=memory.confidence.at[label, slot].set(jnp.where(write, confidence, replaced)),
        visual=jax.tree.map(
            lambda slots, new: slots.at[label, slot].set(jnp.where(write, new, slots[label, slot])),
            memory.visual,
            visual,
        ),
    )


class Batch(NamedTuple):
    """A class-balanced batch: `per_class` draws from each class that has any sample.

    Attributes:
      visual: `[C * per_class, ...]`.
      labels: the pseudo-labels.
      weight: 1 for a real draw, 0 for one from an empty class.
    """

    visual: Visual
    labels: Int[Array, " B"]
    weight: Float[Array, " B"]


def balanced_batch(memory: Memory, key: PRNGKeyArray, per_class: int) -> Batch:
    """Draws the same number of samples, with replacement, from every class that has some."""
    counts = memory.filled.sum(axis=1)  # slots fill from the first on, so these are a prefix
    shape = (memory.confidence.shape[0], per_class)
    slots = jax.random.randint(key, shape, 0, jnp.maximum(counts, 1)[:, None])
    labels = jnp.repeat(jnp.arange(shape[0]), per_class)
    return Batch(
        visual=jax.tree.map(lambda leaf: leaf[labels, slots.reshape(-1)], memory.visual),
        labels=labels,
        weight=jnp.repeat(counts > 0, per_class).astype(jnp.float32),
    )
