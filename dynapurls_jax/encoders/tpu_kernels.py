"""Common parts of the kernels in `tpu_spatial` and `tpu_temporal`: layout, blocks, barrel shifts.

Features are laid out `[V, T, M, L]`: `M` rows with `fold` persons each, in `L = fold * channels`
lanes, so that 64 channels fill the 128 lanes of a TPU. Person `h * M + m` is part `h` of row `m`.
A shift over joints or frames then copies whole tiles without arithmetic; a select (joints) or a
weight (frames) chooses the tile of each channel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

LANES = 128
_BLOCK = 1 << 21  # bytes of a block of features; several of them are in fast memory at a time
_VMEM = 100 << 20  # bytes of fast memory for a kernel, of 128 MB


def rows_of(dtype: Any) -> int:
    """Rows of a tile: 8 for types of four bytes, 16 for types of two."""
    return 32 // jnp.dtype(dtype).itemsize


def fold_of(channels: int) -> int:
    """Number of persons in a row: as many as fill the lanes."""
    return max(1, LANES // channels) if LANES % channels == 0 else 1


def frames_in_block(shape: Sequence[int], rows: int) -> int:
    """The number of frames in a block `[V, frames, rows, L]`: a divisor of all frames."""
    joints, frames, _, lanes = shape
    most = max(1, _BLOCK // (4 * joints * rows * lanes))
    return max(n for n in range(1, frames + 1) if frames % n == 0 and n <= most)


def joined(kernel: Float[Array, "c d"], fold: int) -> Float[Array, "c_in d_out"]:
    """The matrix of channels for `fold` persons in a row, block diagonal.

    If both widths are multiples of the lanes, it is `kernel` itself: `product` then multiplies the
    part of each person separately.
    """
    if all(side % LANES == 0 for side in kernel.shape):
        return kernel
    return jnp.kron(jnp.eye(fold, dtype=kernel.dtype), kernel)


def product(x: Float[Array, "R L"], kernel: Any, transposed: bool = False) -> Array:
    """`x @ kernel` for each part of the lanes, in float32; called inside a TPU kernel."""
    axis = 1 if transposed else 0
    width = kernel.shape[axis]
    contract = (((1,), (axis,)), ((), ()))
    parts = [
        jax.lax.dot_general(
            x[:, i : i + width], kernel, contract, preferred_element_type=jnp.float32
        )
        for i in range(0, x.shape[1], width)
    ]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)


def outer(x: Float[Array, "R L"], g: Float[Array, "R D"], kernel: Any) -> Float[Array, "c d"]:
    """The gradient of `product` with respect to `kernel`; called inside a TPU kernel."""
    c, d = kernel.shape
    contract = (((0,), (0,)), ((), ()))
    total = jnp.zeros((c, d), jnp.float32)
    for i in range(x.shape[1] // c):
        parts = x[:, i * c : (i + 1) * c], g[:, i * d : (i + 1) * d]
        total += jax.lax.dot_general(*parts, contract, preferred_element_type=jnp.float32)
    return total


def rolled(tiles: list[Array], turn: Array, sign: int) -> list[Array]:
    """Rolls lane l of the tiles of all joints by `turn[l]` joints: a barrel shift, bit by bit.

    Args:
      turn: `[1, L]`, in `[0, V)`.
      sign: +1 reads joint `v + turn`, -1 joint `v - turn`.
    """
    joints = len(tiles)
    for bit in range((joints - 1).bit_length()):
        reads = ((turn >> bit) & 1) == 1
        tiles = [
            jnp.where(reads, tiles[(v + sign * (1 << bit)) % joints], tiles[v])
            for v in range(joints)
        ]
    return tiles


def lanes_of(width: int) -> list[slice]:
    """Slices of the lanes, one for each tile."""
    return [slice(i, min(i + LANES, width)) for i in range(0, width, LANES)]


def call(
    kernel: Callable,
    grid: tuple[int, ...],
    inputs: Sequence[tuple[Array, pl.BlockSpec]],
    outputs: Sequence[tuple[jax.ShapeDtypeStruct, pl.BlockSpec]],
    scratch: Sequence[Any],
    *,
    flops: int,
    interpret: bool,
) -> list[Array]:
    """`pl.pallas_call` over a sequential grid, so that blocks can accumulate sums.

    Args:
      flops: estimate for the compiler, which also gets the bytes of all inputs and outputs.
      interpret: run in interpret mode, without a TPU.
    """
    run = pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[spec for _, spec in inputs],
        out_specs=[spec for _, spec in outputs],
        out_shape=[shape for shape, _ in outputs],
        scratch_shapes=scratch,
        cost_estimate=pl.CostEstimate(
            flops=flops,
            transcendentals=0,
            bytes_accessed=sum(a.size * a.dtype.itemsize for a, _ in inputs)
            + sum(a.size * a.dtype.itemsize for a, _ in outputs),
        ),
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM),
        interpret=interpret,
    )
    return list(run(*(array for array, _ in inputs)))


def whole(shape: Sequence[int]) -> pl.BlockSpec:
    """The spec of a small array that every block has whole."""
    return pl.BlockSpec(tuple(shape), lambda *_: (0,) * len(shape))


def summed(*shape: int) -> tuple[jax.ShapeDtypeStruct, pl.BlockSpec]:
    """Shape and spec of a float32 output that all blocks accumulate into."""
    return jax.ShapeDtypeStruct(shape, jnp.float32), whole(shape)


def over_rows(sums: Float[Array, "*shape rows L"]) -> Float[Array, "*shape 1 L"]:
    """Sums over the rows of a tile, which kernels accumulate separately."""
    return jnp.sum(sums, axis=-2, keepdims=True)


def start_sums(*refs: Any) -> None:
    """Sets sums and padding to zero in the first block; called inside a TPU kernel."""

    @pl.when((pl.program_id(0) == 0) & (pl.program_id(1) == 0))
    def _():
        for ref in refs:
            ref[...] = jnp.zeros_like(ref)


def divisor(number: int, most: int, multiple: int = 1) -> int:
    """The largest divisor of `number` up to `most` that is a multiple of `multiple`.

    If all such divisors are larger than `most`, the smallest of them.
    """
    fitting = [n for n in range(1, number + 1) if number % n == 0 and n % multiple == 0]
    return max((n for n in fitting if n <= most), default=min(fitting))
