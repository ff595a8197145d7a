"""Adding and retiring classes during a stream, without recompilation.

The capacity is the number of slots of the candidates that `adapter.init` gets. `State.active` marks
the slots that hold a class. Adding a class resets the method's state of its slot.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dynapurls_jax.adaptation.api import Adapter, State
from dynapurls_jax.zero_shot.base import Candidates


def with_capacity(candidates: Candidates, capacity: int) -> tuple[Candidates, Bool[Array, " C"]]:
    """Candidates with `capacity` slots, and which of them are active: arguments of `init`.

    Raises:
      ValueError: there are more classes than slots.
    """
    count = len(candidates.classes)
    if capacity < count:
        raise ValueError(f"capacity: expected {count} or more, one for each class, got {capacity}")
    # Free slots hold a unit vector, to avoid division by zero; no result depends on it.
    filler = jnp.repeat(candidates.classes[:1], capacity - count, axis=0)
    classes = jnp.concatenate([candidates.classes, filler])
    return candidates._replace(classes=classes), jnp.arange(capacity) < count


def add_class(
    adapter: Adapter,
    state: State,
    vectors: Float[Array, "G e"],
    allowed: Bool[Array, " C"] | bool = True,
) -> tuple[State, int]:
    """Puts a class into the first free slot and resets the method's state of that slot.

    Args:
      vectors: of the class, as in `Candidates.classes`, unit rows.
      allowed: the slots that the class may take.

    Returns:
      The new state, and the slot, which is the label of the class in predictions.

    Raises:
      ValueError: no slot is free, or the vectors have another shape or are not finite.
    """
    expected = state.candidates.classes.shape[1:]
    if vectors.shape != expected or not bool(jnp.isfinite(vectors).all()):
        raise ValueError(
            f"vectors of a class: expected finite values of shape {expected}, got shape "
            f"{vectors.shape}"
        )
    allowed = jnp.broadcast_to(allowed, state.active.shape)
    free = allowed & ~state.active
    if not bool(free.any()):
        raise ValueError(
            f"all {int(allowed.sum())} slots are taken; retire a class, or start with a larger "
            "capacity"
        )
    slot = int(jnp.argmax(free))
    classes = state.candidates.classes.at[slot].set(vectors)
    state = state._replace(candidates=state.candidates._replace(classes=classes))
    state = _clear(adapter, state, slot)
    return state._replace(active=state.active.at[slot].set(True)), slot


def retire_class(adapter: Adapter, state: State, slot: int) -> State:
    """Frees a slot: its class is no longer predicted, and the state of the slot is reset.

    Predictions need at least one active class.

    Raises:
      ValueError: the slot holds no class.
    """
    if not 0 <= slot < len(state.active) or not bool(state.active[slot]):
        taken = [int(slot) for slot in jnp.flatnonzero(state.active)]
        raise ValueError(f"slot {slot} holds no class; slots with a class: {taken}")
    return _clear(adapter, state, slot)._replace(active=state.active.at[slot].set(False))


def reset(adapter: Adapter, state: State) -> State:
    """Resets the method's state, and with it the class vectors; active classes stay active.

    The counters continue, so that random numbers do not repeat.
    """
    key = jax.random.wrap_key_data(state.key)
    fresh = adapter.init(state.candidates, state.active, key)
    return state._replace(inner_state=fresh.inner_state)


@partial(jax.jit, static_argnums=0)
def _clear(adapter: Adapter, state: State, slot: int | Int[Array, ""]) -> State:
    """The method's state of one slot as `init` makes it; one program for all slots."""
    fresh = reset(adapter, state).inner_state

    def cleared(axes: tuple[int, ...], leaf: Array, new: Array) -> Array:
        for axis in axes:
            index = (*(slice(None),) * axis, slot)
            leaf = leaf.at[index].set(new[index])
        return leaf

    leaves, structure = jax.tree.flatten(state.inner_state)
    axes = class_axes(adapter, state.candidates)
    each = map(cleared, axes, leaves, jax.tree.leaves(fresh))
    return state._replace(inner_state=jax.tree.unflatten(structure, each))


def class_axes(adapter: Adapter, candidates: Candidates) -> list[tuple[int, ...]]:
    """The class axes of each leaf of `inner_state`.

    These are the axes that grow with one more class, so methods need not declare them.
    """

    def shapes(extra: int) -> list[Any]:
        count, *shape = candidates.classes.shape
        classes = jax.ShapeDtypeStruct((count + extra, *shape), candidates.classes.dtype)

        def inner_state(classes: Array) -> Any:
            return adapter.init(candidates._replace(classes=classes)).inner_state

        return jax.tree.leaves(jax.eval_shape(inner_state, classes))

    def grown(small: Any, large: Any) -> tuple[int, ...]:
        sizes = enumerate(zip(small.shape, large.shape, strict=True))
        return tuple(axis for axis, (a, b) in sizes if a != b)

    return list(map(grown, shapes(0), shapes(1)))
