"""Loops over the chunks of a stream.

On an accelerator, the small kernels of a loop are latency-bound: `run_ahead` keeps only those
operations in the loop that depend on the method's own state.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

_AT_ONCE = 64  # samples, about, for which `run_ahead` computes `ahead` at once


def finite(features: Any) -> Bool[Array, " B"]:
    """Which samples have only finite features."""
    leaves = jax.tree.leaves(features)
    flags = [jnp.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves]
    return jnp.stack(flags).all(axis=0)


def zero_unusable(features: Any, usable: Bool[Array, " B"]) -> Any:
    """Features with zeros for the samples that are not usable."""

    def masked(leaf: Array) -> Array:
        return jnp.where(usable.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0)

    return jax.tree.map(masked, features)


def scan_chunks(step: Callable, state: Any, samples: Any, *, chunk: int) -> tuple[Any, Any]:
    """`lax.scan` over chunks of samples; the last one may be smaller.

    Args:
      step: `(state, chunk of samples) -> (state, outputs)`.
      samples: a pytree with a leading axis of samples, like the returned outputs.
      chunk: samples of a chunk.
    """
    count = len(jax.tree.leaves(samples)[0])
    whole = count // chunk * chunk
    chunks = jax.tree.map(
        lambda leaf: leaf[:whole].reshape(whole // chunk, chunk, *leaf.shape[1:]), samples
    )
    state, outputs = jax.lax.scan(step, state, chunks)
    outputs = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), outputs)
    if whole < count:
        state, rest = step(state, jax.tree.map(lambda leaf: leaf[whole:], samples))
        outputs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), outputs, rest)
    return state, outputs


def run_ahead(
    adapter: Any, state: Any, features: Any, chunk: int
) -> tuple[Any, Any, Bool[Array, " N"]]:
    """`api.run_stream` with `adapter.ahead` before the loop.

    It is in the loop if its result needs more memory than the features.

    Returns:
      The last state, `Learned` of all samples, and which are finite.
    """
    usable = finite(features)
    count = len(usable)
    whole = count // chunk * chunk
    skipped = state.skipped + jnp.cumsum(~usable) - ~usable  # before each sample
    packed = []

    def at(counters: tuple[Array, Array], inner_state: Any = None) -> Any:
        samples, skipped = counters
        return state._replace(samples=samples, skipped=skipped, inner_state=inner_state)

    def split(leaf: Array) -> Array:
        return leaf[:whole].reshape(whole // chunk, chunk, *leaf.shape[1:])

    def found_of(each: tuple[Any, Any, Array]) -> Any:
        counters, features, usable = each
        return adapter.ahead(at(counters), zero_unusable(features, usable))

    def advance(inner_state: Any, each: Any) -> tuple[Any, Array]:
        (counters, features, usable), found = each
        found = found_of(each[0]) if found is None else found[0]
        features = zero_unusable(features, usable)
        found = adapter.advance(at(counters, inner_state), features, found, usable)
        packed.append(_Packed(found[1]))
        return found[0], packed[-1].matrix  # one output array

    counters = state.samples + jnp.arange(count, dtype=jnp.int32), skipped
    starts = jax.tree.map(lambda leaf: leaf[:whole:chunk], counters)
    chunks = (starts, jax.tree.map(split, features), split(usable))
    inner_state, parts = state.inner_state, []
    if whole:
        found = None
        one = jax.eval_shape(found_of, jax.tree.map(lambda leaf: leaf[0], chunks))
        if _bytes(one) <= _bytes(features) * chunk / count:
            at_once = max(1, min(whole // chunk, _AT_ONCE // chunk))
            found = (jax.lax.map(found_of, chunks, batch_size=at_once),)
        inner_state, rows = jax.lax.scan(advance, inner_state, (chunks, found))
        parts.append(rows.reshape(whole, -1))
    if whole < count:
        rest = jax.tree.map(lambda leaf: leaf[whole:], (features, usable))
        first = jax.tree.map(lambda leaf: leaf[whole], counters)
        inner_state, rows = advance(inner_state, ((first, *rest), None))
        parts.append(rows)
    state = state._replace(
        inner_state=inner_state,
        samples=state.samples + count,
        skipped=state.skipped + jnp.sum(~usable),
    )
    return state, packed[-1].unpacked(jnp.concatenate(parts)), usable


class _Packed:
    """A pytree with leaves `[B]` or `[B, n]` as one matrix."""

    def __init__(self, tree: Any):
        leaves, self.structure = jax.tree.flatten(tree)
        self.kinds = [(leaf.shape[1:], leaf.dtype) for leaf in leaves]
        columns = [leaf.reshape(len(leaf), -1).astype(jnp.float32) for leaf in leaves]
        self.matrix = jnp.concatenate(columns, axis=1)

    def unpacked(self, matrix: Array) -> Any:
        """The pytree of a matrix of any number of rows."""
        leaves, start = [], 0
        for shape, dtype in self.kinds:
            width = shape[0] if shape else 1
            columns = matrix[:, start : start + width]
            leaves.append(columns.reshape(len(matrix), *shape).astype(dtype))
            start += width
        return jax.tree.unflatten(self.structure, leaves)


def _bytes(tree: Any) -> int:
    """Bytes of all leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
