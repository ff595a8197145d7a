"""Classes that come and go while a stream runs, within a fixed capacity: nothing is compiled again.

The capacity is the number of slots that the text of `adapter.init` has. Slots are switched on and
off by `State.active`; whatever a method remembers of a slot starts anew when a class is added.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.adaptation.api import Adapter, State
from dynapurls_jax.zero_shot.nn.partition import Text


def with_capacity(text: Text, capacity: int) -> tuple[Text, Array]:
    """Text with room for `capacity` classes, and which slots are taken: arguments of `init`.

    Raises:
      ValueError: there are more classes than that.
    """
    held = len(text.classes)
    if capacity < held:
        raise ValueError(f"capacity: expected {held} or more, one for each class, got {capacity}")
    # Free slots hold some text, so that nothing divides by zero; nobody reads it.
    filler = jnp.broadcast_to(text.query, (capacity - held, *text.query.shape))
    classes = jnp.concatenate([text.classes, filler])
    return Text(classes, text.query), jnp.arange(capacity) < held


def add_class(adapter: Adapter, state: State, rows: Float[Array, "G d"]) -> tuple[State, int]:
    """Takes a class into the first free slot; what was remembered of that slot is forgotten.

    Args:
      rows: its text, unit rows.

    Returns:
      The new state, and the slot: the label that predictions will give.

    Raises:
      ValueError: no slot is free, or the text has another shape or is not finite.
    """
    expected = state.text.classes.shape[1:]
    if rows.shape != expected or not bool(jnp.isfinite(rows).all()):
        raise ValueError(f"a class's text: expected {expected} finite numbers, got {rows.shape}")
    free = ~state.active
    if not bool(free.any()):
        raise ValueError(
            f"all {len(free)} slots are taken; retire a class, or start with a larger capacity"
        )
    slot = int(jnp.argmax(free))
    text = state.text._replace(classes=state.text.classes.at[slot].set(rows))
    state = _forget(adapter, state._replace(text=text), slot)
    return state._replace(active=state.active.at[slot].set(True)), slot


def retire_class(adapter: Adapter, state: State, slot: int) -> State:
    """Frees a slot: it is predicted no more, and what was remembered of it is forgotten.

    Raises:
      ValueError: no class is there, or it is the last one.
    """
    if not 0 <= slot < len(state.active) or not bool(state.active[slot]):
        raise ValueError(f"slot {slot} holds no class; taken are {_taken(state)}")
    if int(state.active.sum()) == 1:
        raise ValueError(f"slot {slot} holds the last class; a stream needs one")
    return _forget(adapter, state, slot)._replace(active=state.active.at[slot].set(False))


def reset(adapter: Adapter, state: State) -> State:
    """Back to the static text and empty memories, with the classes that are active now.

    The counters go on, so that randomness does not repeat itself.
    """
    key = jax.random.wrap_key_data(state.key)
    return state._replace(own=adapter.init(state.text, state.active, key).own)


def _taken(state: State) -> list[int]:
    return [int(slot) for slot in jnp.flatnonzero(state.active)]


def _forget(adapter: Adapter, state: State, slot: int) -> State:
    """What the method remembers of one slot, as `init` makes it."""
    fresh = reset(adapter, state).own

    def restart(axes: tuple[int, ...], leaf, new):
        for axis in axes:
            index = (*(slice(None),) * axis, slot)
            leaf = leaf.at[index].set(new[index])
        return leaf

    leaves, structure = jax.tree.flatten(state.own)
    rows = zip(class_axes(adapter, state.text), leaves, jax.tree.leaves(fresh), strict=True)
    own = jax.tree.unflatten(structure, [restart(*row) for row in rows])
    return state._replace(own=own)


def class_axes(adapter: Adapter, text: Text) -> list[tuple[int, ...]]:
    """Of each leaf of `own`, its axes of classes.

    They are those that grow if there is one class more; so no method has to say.
    """

    def shapes(extra: int) -> list[Any]:
        classes = jax.ShapeDtypeStruct(
            (len(text.classes) + extra, *text.classes.shape[1:]), text.classes.dtype
        )
        own = jax.eval_shape(lambda c: adapter.init(Text(c, text.query)).own, classes)
        return jax.tree.leaves(own)

    def axes(small, large) -> tuple[int, ...]:
        sizes = enumerate(zip(small.shape, large.shape, strict=True))
        return tuple(i for i, (a, b) in sizes if a != b)

    return [axes(*pair) for pair in zip(shapes(0), shapes(1), strict=True)]
