"""The spatial half of a Shift-GCN layer as two TPU kernels, each with its gradient.

`mix` reads the features once and writes them once; `unroll` reads two and writes one. Shapes are
those of `tpu_kernels`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from dynapurls_jax.encoders.tpu_kernels import (
    call,
    frames_in_block,
    lanes_of,
    outer,
    over_rows,
    product,
    rolled,
    rows_of,
    start_sums,
    summed,
    whole,
)


class Mix(NamedTuple):
    """Parameters of `mix`; `kernel` is the result of `tpu_kernels.joined`."""

    gain: Float[Array, "V 1 L"]
    kernel: Float[Array, "c d"]
    bias: Float[Array, "1 D"]


class Affine(NamedTuple):
    """Gain and offset of a normalisation."""

    gain: Float[Array, "V 1 L"]
    offset: Float[Array, "V 1 L"]


class Lanes(NamedTuple):
    """Values for each lane.

    Attributes:
      share: weight of each person in a mean, for each lane of the result.
      turn: number of joints by which each lane of the input is rolled, in `[0, V)`.
    """

    share: Float[Array, "M D"]
    turn: Int[Array, "1 L"]


def _blocks(x, lanes: int):
    """The grid over frames and persons, and the spec of a block of all joints."""
    rows = rows_of(x.dtype)
    joints, frames, persons, _ = x.shape
    step = frames_in_block((joints, frames, persons, lanes), rows)
    grid = (frames // step, persons // rows)

    def spec(width: int) -> pl.BlockSpec:
        return pl.BlockSpec((joints, step, rows, width), lambda t, m: (0, t, m, 0))

    def share(width: int) -> pl.BlockSpec:
        return pl.BlockSpec((rows, width), lambda t, m: (m, 0))

    return grid, spec, share


def _roll_into(target, source, turn, sign, factor=None):
    """Rolls a block over joints, frame by frame, and multiplies it."""
    joints, frames = source.shape[:2]

    @pl.loop(0, frames)
    def _(t):
        for lanes in lanes_of(source.shape[3]):
            tiles = [source[v, t, :, lanes].astype(jnp.float32) for v in range(joints)]
            for v, tile in enumerate(rolled(tiles, turn[:, lanes], sign)):
                tile = tile if factor is None else tile * factor[v, :, lanes]
                target[v, t, :, lanes] = tile.astype(target.dtype)


def _flat(block):
    """`[T, M, L]` to `[T * M, L]`."""
    return block.reshape(-1, block.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def mix(x: Float[Array, "V T M L"], weights: Mix, lanes: Lanes, moments: bool, interpret: bool):
    """`y = (roll(x) * gain) @ kernel + bias`, and `sum(share * y)`, `sum(share * y * y)`.

    Args:
      moments: whether to compute the sums; otherwise they are zero.
      interpret: run in interpret mode, without a TPU.

    Returns:
      `y` `[V, T, M, D]`, and the two sums `[V, 1, D]`, float32.
    """
    return _mix(x, weights, lanes, moments, interpret)


@partial(jax.jit, static_argnums=(3, 4))
def _mix(x, weights, of_lanes, moments, interpret):
    gain, kernel, bias = weights
    share, turn = of_lanes
    joints, frames, persons, lanes = x.shape
    width = share.shape[1]
    grid, spec, of_rows = _blocks(x, max(lanes, width))

    def body(*refs):
        x, gain, kernel, bias, share, turn, y, first, second, z = refs
        start_sums(first, second)
        _roll_into(z, x, turn, 1, gain)
        weights = kernel[...]

        @pl.loop(0, joints)
        def _(v):
            out = product(_flat(z[v]), weights) + bias[...]
            out = out.reshape(y.shape[1:])
            y[v] = out.astype(y.dtype)
            if moments:
                weighted = out * share[...]
                first[v] += jnp.sum(weighted, axis=0)
                second[v] += jnp.sum(weighted * out, axis=0)

    small = [gain, kernel, bias]
    inputs = [(x, spec(lanes)), *((a, whole(a.shape)) for a in small)]
    inputs += [(share, of_rows(width)), (turn, whole(turn.shape))]
    shape = jax.ShapeDtypeStruct((joints, frames, persons, width), x.dtype)
    outputs = [(shape, spec(width)), *[summed(joints, rows_of(x.dtype), width)] * 2]
    scratch = [pltpu.VMEM(spec(lanes).block_shape, x.dtype)]
    flops = 2 * x.size * kernel.shape[1]
    y, *sums = call(body, grid, inputs, outputs, scratch, flops=flops, interpret=interpret)
    return y, *map(over_rows, sums)


def _mix_forward(x, weights, lanes, moments, interpret):
    found = _mix(x, weights, lanes, moments, interpret)
    return found, (x, found[0], weights, lanes)


@partial(jax.jit, static_argnums=(0, 1))
def _mix_backward(moments, interpret, saved, g):
    x, y, (gain, kernel, _), (share, turn) = saved
    joints, _, _, lanes = x.shape
    width = share.shape[1]
    grid, spec, of_rows = _blocks(x, max(lanes, width))

    def body(*refs):
        x, y, g, g1, g2, gain, kernel, share, turn, dx, dgain, dkernel, dbias, u, dz = refs
        start_sums(dgain, dkernel, dbias)
        _roll_into(u, x, turn, 1)
        weights = kernel[...]

        @pl.loop(0, joints)
        def _(v):
            total = g[v].astype(jnp.float32)
            if moments:
                total += share[...] * (g1[v] + 2 * g2[v] * y[v].astype(jnp.float32))
            flat = _flat(total)
            read = _flat(u[v]).astype(jnp.float32)
            narrow = flat.astype(x.dtype)
            masked = (read * gain[v]).astype(x.dtype)
            dkernel[...] += outer(masked, narrow, weights)
            dbias[...] += jnp.sum(total, axis=0)
            back = product(narrow, weights, transposed=True)
            dgain[v] += jnp.sum((read * back).reshape(dz.shape[1:]), axis=0)
            dz[v] = (back * gain[v]).reshape(dz.shape[1:]).astype(dz.dtype)

        _roll_into(dx, dz, turn, -1)

    dy, first, second = g
    small = [first, second, gain, kernel]
    inputs = [(x, spec(lanes)), (y, spec(width)), (dy, spec(width))]
    inputs += [*((a, whole(a.shape)) for a in small)]
    inputs += [(share, of_rows(width)), (turn, whole(turn.shape))]
    outputs = [
        (jax.ShapeDtypeStruct(x.shape, x.dtype), spec(lanes)),
        summed(joints, rows_of(x.dtype), lanes),
        summed(*kernel.shape),
        summed(rows_of(x.dtype), width),
    ]
    block = spec(lanes).block_shape
    scratch = [pltpu.VMEM(block, x.dtype), pltpu.VMEM(block, x.dtype)]
    flops = 4 * x.size * kernel.shape[1]
    dx, *grads = call(body, grid, inputs, outputs, scratch, flops=flops, interpret=interpret)
    dgain, dkernel, dbias = grads
    weights = Mix(over_rows(dgain), dkernel.astype(kernel.dtype), over_rows(dbias))
    return dx, weights, None


mix.defvjp(_mix_forward, _mix_backward)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def unroll(
    y: Float[Array, "V T M L"],
    skip: Float[Array, "V T M L"],
    norm: Affine,
    lanes: Lanes,
    moments: bool,
    interpret: bool,
):
    """`z = relu(roll_back(y) * gain + offset + skip)`, and its sums as in `mix`.

    Args:
      moments, interpret: see `mix`.

    Returns:
      `z` `[V, T, M, L]`, and the two sums `[V, 1, L]`, float32.
    """
    return _unroll(y, skip, norm, lanes, moments, interpret)


@partial(jax.jit, static_argnums=(4, 5))
def _unroll(y, skip, norm, of_lanes, moments, interpret):
    share, turn = of_lanes
    joints, _, _, lanes = y.shape
    grid, spec, of_rows = _blocks(y, lanes)

    def body(*refs):
        y, skip, gain, offset, share, turn, z, first, second = refs
        start_sums(first, second)

        @pl.loop(0, y.shape[1])
        def _(t):
            for part in lanes_of(lanes):
                tiles = [y[v, t, :, part].astype(jnp.float32) for v in range(joints)]
                for v, tile in enumerate(rolled(tiles, turn[:, part], -1)):
                    out = tile * gain[v, :, part] + offset[v, :, part]
                    out = jnp.maximum(out + skip[v, t, :, part].astype(jnp.float32), 0)
                    z[v, t, :, part] = out.astype(z.dtype)
                    if moments:
                        weighted = out * share[:, part]
                        first[v, :, part] += weighted
                        second[v, :, part] += weighted * out

    inputs = [(y, spec(lanes)), (skip, spec(lanes))]
    inputs += [*((a, whole(a.shape)) for a in norm)]
    inputs += [(share, of_rows(lanes)), (turn, whole(turn.shape))]
    outputs = [(jax.ShapeDtypeStruct(y.shape, y.dtype), spec(lanes))]
    outputs += [summed(joints, rows_of(y.dtype), lanes)] * 2
    z, *sums = call(body, grid, inputs, outputs, [], flops=8 * y.size, interpret=interpret)
    return z, *map(over_rows, sums)


def _unroll_forward(y, skip, norm, lanes, moments, interpret):
    found = _unroll(y, skip, norm, lanes, moments, interpret)
    return found, (y, found[0], norm.gain, lanes)


@partial(jax.jit, static_argnums=(0, 1))
def _unroll_backward(moments, interpret, saved, g):
    y, z, gain, (share, turn) = saved
    joints, _, _, lanes = y.shape
    grid, spec, of_rows = _blocks(y, lanes)

    def body(*refs):
        y, z, g, g1, g2, gain, share, turn, dy, dskip, dgain, doffset = refs
        start_sums(dgain, doffset)

        @pl.loop(0, y.shape[1])
        def _(t):
            for part in lanes_of(lanes):
                tiles = [y[v, t, :, part].astype(jnp.float32) for v in range(joints)]
                tiles = rolled(tiles, turn[:, part], -1)
                back = []
                for v in range(joints):
                    out = z[v, t, :, part].astype(jnp.float32)
                    total = g[v, t, :, part].astype(jnp.float32)
                    if moments:
                        total += share[:, part] * (g1[v, :, part] + 2 * g2[v, :, part] * out)
                    total = jnp.where(out > 0, total, 0)
                    dskip[v, t, :, part] = total.astype(dskip.dtype)
                    dgain[v, :, part] += total * tiles[v]
                    doffset[v, :, part] += total
                    back.append(total * gain[v, :, part])
                for v, tile in enumerate(rolled(back, turn[:, part], 1)):
                    dy[v, t, :, part] = tile.astype(dy.dtype)

    dz, first, second = g
    inputs = [(y, spec(lanes)), (z, spec(lanes)), (dz, spec(lanes))]
    inputs += [*((a, whole(a.shape)) for a in (first, second, gain))]
    inputs += [(share, of_rows(lanes)), (turn, whole(turn.shape))]
    shape = jax.ShapeDtypeStruct(y.shape, y.dtype)
    outputs = [(shape, spec(lanes))] * 2 + [summed(joints, rows_of(y.dtype), lanes)] * 2
    flops = 16 * y.size
    dy, dskip, *grads = call(body, grid, inputs, outputs, [], flops=flops, interpret=interpret)
    return dy, dskip, Affine(*map(over_rows, grads)), None


unroll.defvjp(_unroll_forward, _unroll_backward)
