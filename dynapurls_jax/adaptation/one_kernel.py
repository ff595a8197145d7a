"""Many small operations as one TPU kernel, because separate small kernels are latency-bound."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from dynapurls_jax.encoders.jit import runs_kernels

_MOST = 8 << 20  # bytes of all inputs together, padded to whole tiles of 8 x 128
_ROOM = 100 << 20  # bytes of fast memory for inputs and intermediate values


def in_one_kernel(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`; on a TPU as one kernel, if its inputs fit and it can be lowered.

    Args:
      function: pytrees of arrays to pytrees of arrays; it may close over arrays.
    """
    if not runs_kernels():
        return function(*arguments)
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    inputs = [jnp.asarray(a) for a in (*closed.consts, *jax.tree.leaves(arguments))]
    if sum(map(_padded, inputs)) > _MOST or not _can_be_lowered(closed, inputs):
        return function(*arguments)
    return jax.tree.unflatten(jax.tree.structure(shape), _call(closed, inputs))


def _call(closed: Any, inputs: list[Array], interpret: bool = False) -> list[Array]:
    """Runs the kernel of a traced function, whose arrays have at least two axes and no booleans.

    Args:
      interpret: run in interpret mode, without a TPU.
    """
    results = closed.out_avals

    def kernel(*refs):
        values = [
            (ref[...] != 0 if _is_flag(array.dtype) else ref[...]).reshape(array.shape)
            for ref, array in zip(refs, inputs, strict=False)
        ]
        number = len(closed.consts)
        found = jax.core.eval_jaxpr(closed.jaxpr, values[:number], *values[number:])
        for ref, value in zip(refs[len(inputs) :], found, strict=True):
            ref[...] = value.reshape(ref.shape).astype(ref.dtype)

    arrays = [a.astype(_stored(a.dtype)).reshape(_two_axes(a.shape)) for a in inputs]
    shapes = [jax.ShapeDtypeStruct(_two_axes(r.shape), _stored(r.dtype)) for r in results]
    limits = pltpu.CompilerParams(vmem_limit_bytes=_ROOM)
    size = sum(math.prod(a.shape) * jnp.dtype(a.dtype).itemsize for a in arrays)
    size += sum(math.prod(a.shape) * jnp.dtype(a.dtype).itemsize for a in shapes)
    cost = pl.CostEstimate(flops=0, transcendentals=0, bytes_accessed=size)
    found = pl.pallas_call(
        kernel, shapes, compiler_params=limits, cost_estimate=cost, interpret=interpret
    )(*arrays)
    pairs = zip(found, results, strict=True)
    return [one.reshape(result.shape).astype(result.dtype) for one, result in pairs]


def _can_be_lowered(closed: Any, inputs: list[Array]) -> bool:
    """Whether all operations can be lowered inside a kernel."""
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in inputs]
    try:
        jax.jit(lambda *arrays: _call(closed, list(arrays))).trace(*shapes).lower(
            lowering_platforms=("tpu",)
        )
    except Exception:  # the type depends on the operation
        return False
    return True


def _stored(dtype: Any) -> Any:
    """The type of an array outside the kernel."""
    return jnp.int32 if _is_flag(dtype) else dtype


def _is_flag(dtype: Any) -> bool:
    """Whether an array is of booleans."""
    return jnp.issubdtype(dtype, jnp.bool_)


def _two_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with at least two axes."""
    return (1,) * (2 - len(shape)) + tuple(shape)


def _padded(array: Array) -> int:
    """Bytes of an array in whole tiles."""
    *outer, rows, lanes = _two_axes(array.shape)
    return 4 * math.prod(outer) * -(-rows // 8) * 8 * -(-lanes // 128) * 128
