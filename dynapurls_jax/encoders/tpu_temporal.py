"""The temporal half of a Shift-GCN layer as one TPU kernel, with its gradient.

`shift_mix` normalises, shifts each channel in time, mixes channels and shifts again: the features
are read once and written once. A shift is linear interpolation: a sum over whole frames k with the
weights `max(0, 1 - |place - k|)`, within the range of the displacements. Shapes are those of
`tpu_kernels`. Frames outside a clip are zero: in fast memory a clip is padded by its own length on
either side. With a stride of 2, even and odd frames are stored separately.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from dynapurls_jax.encoders.tpu_interpolation import reach, read, read_back, share_of, slope_of
from dynapurls_jax.encoders.tpu_kernels import (
    call,
    divisor,
    lanes_of,
    outer,
    over_rows,
    product,
    rows_of,
    start_sums,
    summed,
    whole,
)


class Weights(NamedTuple):
    """Parameters of `shift_mix`.

    Attributes:
      gain, offset: of the normalisation of `x`.
      place_in: displacement of each lane of `x`, frames.
      kernel: see `tpu_kernels.joined`.
      place_out: of each lane of the result, for output frame 0.
    """

    gain: Float[Array, "1 L"]
    offset: Float[Array, "1 L"]
    place_in: Float[Array, "1 L"]
    kernel: Float[Array, "c d"]
    bias: Float[Array, "1 D"]
    place_out: Float[Array, "1 D"]


class _Sizes(NamedTuple):
    """Frames in and out, stride, and frames per step of elementwise code and of products."""

    frames: int
    out: int
    stride: int
    few: int
    many: int

    @classmethod
    def of(cls, frames: int, stride: int) -> "_Sizes":
        few, many = divisor(frames // stride, 8), divisor(frames, 32, stride)
        return cls(frames, frames // stride, stride, few, many)


def _normalise(x, gain, offset, n, sizes):
    """`n = x * gain + offset` inside the clip."""

    @pl.loop(0, sizes.frames // sizes.few)
    def _(i):
        at = i * sizes.few
        value = x[0, pl.ds(at, sizes.few)].astype(jnp.float32) * gain[...] + offset[...]
        n[pl.ds(sizes.frames + at, sizes.few), 0] = value


def _shift_in(n, bounds, place, u, sizes):
    """`u[t] = sum_k share(k) n[t + k]`."""

    @pl.loop(0, sizes.frames // sizes.few)
    def _(i):
        at = i * sizes.few
        for part in lanes_of(u.shape[2]):
            weight = partial(share_of, place[:, part])
            (out,) = read(n, sizes.frames + at, sizes.few, bounds, [weight], part)
            u[pl.ds(at, sizes.few), :, part] = out.astype(u.dtype)


def _mix(u, kernel, bias, h, sizes):
    """`h = relu(u @ kernel + bias)`, with separate even and odd frames if the stride is 2."""
    weights = kernel[...]

    @pl.loop(0, sizes.frames // sizes.many)
    def _(i):
        block = u[pl.ds(i * sizes.many, sizes.many)]
        out = jnp.maximum(product(block.reshape(-1, block.shape[-1]), weights) + bias[...], 0)
        steps = sizes.many // sizes.stride
        at = sizes.out + i * steps
        h[pl.ds(at, steps)] = out.reshape(steps, *h.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def shift_mix(
    x: Float[Array, "V T M L"],
    weights: Weights,
    share: Float[Array, "M D"],
    stride: int,
    moments: bool,
    interpret: bool,
):
    """`y = shift(relu(shift(x * gain + offset) @ kernel + bias))`, and its sums.

    Args:
      share: weight of each person in a mean.
      stride: of the second shift, 1 or 2.
      moments: whether to compute the sums of `share * y` and `share * y * y`; otherwise they are
        zero.
      interpret: run in interpret mode, without a TPU.

    Returns:
      `y` `[V, T // stride, M, D]`, and the two sums `[1, D]`, float32.
    """
    return _forward(x, weights, share, stride, moments, interpret)


def _layout(x, width: int, stride: int):
    """Grid, block specs of features in and out and of shares, and sizes."""
    joints, frames, persons, lanes = x.shape
    rows, sizes = rows_of(x.dtype), _Sizes.of(frames, stride)
    grid = (joints, persons // rows)

    def spec(length: int, wide: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, length, rows, wide), lambda v, m: (v, 0, m, 0))

    share = pl.BlockSpec((rows, width), lambda v, m: (m, 0))
    return grid, rows, sizes, spec(frames, lanes), spec(sizes.out, width), share


def _bounds(weights: Weights, sizes: _Sizes):
    """The ranges of both shifts, `[4]`, and the spec for scalar memory."""
    first = reach(weights.place_in, 1, sizes.frames)
    second = reach(weights.place_out, sizes.stride, sizes.out)
    spec = pl.BlockSpec(memory_space=pltpu.SMEM)
    return jax.lax.stop_gradient(jnp.concatenate([first, second])), spec


@partial(jax.jit, static_argnums=(3, 4, 5))
def _forward(x, weights, share, stride, moments, interpret):
    width = share.shape[1]
    grid, rows, sizes, of_x, of_y, of_share = _layout(x, width, stride)

    def body(*refs):
        bounds, x, gain, offset, place_in, kernel, bias, place_out, share, *rest = refs
        y, first, second, n, u, h = rest
        start_sums(first, second, n, h)
        _normalise(x, gain, offset, n, sizes)
        _shift_in(n, (bounds[0], bounds[1]), place_in, u, sizes)
        _mix(u, kernel, bias, h, sizes)

        @pl.loop(0, sizes.out // sizes.few)
        def _(i):
            at = i * sizes.few
            for part in lanes_of(width):
                weight = partial(share_of, place_out[:, part])
                reads = bounds[2], bounds[3]
                (out,) = read(h, sizes.out + at, sizes.few, reads, [weight], part)
                y[0, pl.ds(at, sizes.few), :, part] = out.astype(y.dtype)
                if moments:
                    weighted = out * share[:, part]
                    first[:, part] += jnp.sum(weighted, axis=0)
                    second[:, part] += jnp.sum(weighted * out, axis=0)

    joints, frames, persons, lanes = x.shape
    inputs = [_bounds(weights, sizes), (x, of_x), *((w, whole(w.shape)) for w in weights)]
    inputs += [(share, of_share)]
    shape = jax.ShapeDtypeStruct((joints, sizes.out, persons, width), x.dtype)
    outputs = [(shape, of_y), summed(rows, width), summed(rows, width)]
    scratch = [
        pltpu.VMEM((3 * frames, 1, rows, lanes), jnp.float32),
        pltpu.VMEM((frames, rows, lanes), x.dtype),
        pltpu.VMEM((3 * sizes.out, stride, rows, width), jnp.float32),
    ]
    flops = 2 * x.size * weights.kernel.shape[1]
    y, *sums = call(body, grid, inputs, outputs, scratch, flops=flops, interpret=interpret)
    return y, *map(over_rows, sums)


def _shift_mix_forward(x, weights, share, stride, moments, interpret):
    found = _forward(x, weights, share, stride, moments, interpret)
    return found, (x, found[0], weights, share)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _shift_mix_backward(stride, moments, interpret, saved, g):
    x, y, weights, share = saved
    width = share.shape[1]
    grid, rows, sizes, of_x, of_y, of_share = _layout(x, width, stride)
    frames, few = sizes.frames, sizes.few

    def body(*refs):
        bounds, x, y, g, g1, g2, gain, offset, place_in, kernel, bias, *rest = refs
        place_out, share, dx, dgain, doffset, dplace_in, dkernel, dbias, dplace_out = rest[:9]
        n, u, h, back, du = rest[9:]
        start_sums(dgain, doffset, dplace_in, dkernel, dbias, dplace_out, n, h, back, du)
        reads_in, reads_out = (bounds[0], bounds[1]), (bounds[2], bounds[3])
        _normalise(x, gain, offset, n, sizes)
        _shift_in(n, reads_in, place_in, u, sizes)
        _mix(u, kernel, bias, h, sizes)

        @pl.loop(0, sizes.out // few)
        def _(i):  # the total gradient of y, and that of the second displacement
            at = i * few
            for part in lanes_of(width):
                total = g[0, pl.ds(at, few), :, part].astype(jnp.float32)
                if moments:
                    value = y[0, pl.ds(at, few), :, part].astype(jnp.float32)
                    total += share[:, part] * (g1[:, part] + 2 * g2[:, part] * value)
                back[pl.ds(sizes.out + at, few), 0, :, part] = total
                slope = partial(slope_of, place_out[:, part])
                (moved,) = read(h, sizes.out + at, few, reads_out, [slope], part)
                dplace_out[:, part] += jnp.sum(total * moved, axis=0)

        @pl.loop(0, sizes.out // few)
        def _(i):  # through the second shift and the ReLU, in place of h
            at = sizes.out + i * few
            for part in lanes_of(width):
                for parity in range(stride):

                    def weight(step, parity=parity, part=part):
                        k = (stride * step + parity).astype(jnp.float32)
                        return share_of(place_out[:, part], k)

                    total = read_back(back, at, few, reads_out, weight, part)
                    value = h[pl.ds(at, few), parity, :, part]
                    h[pl.ds(at, few), parity, :, part] = jnp.where(value > 0, total, 0)

        weights = kernel[...]

        @pl.loop(0, frames // sizes.many)
        def _(i):
            steps = sizes.many // stride
            total = h[pl.ds(sizes.out + i * steps, steps)].reshape(sizes.many, rows, width)
            dbias[...] += jnp.sum(total, axis=0)
            narrow = total.reshape(-1, width).astype(x.dtype)
            block = u[pl.ds(i * sizes.many, sizes.many)]
            dkernel[...] += outer(block.reshape(-1, block.shape[-1]), narrow, weights)
            out = product(narrow, weights, transposed=True)
            du[pl.ds(frames + i * sizes.many, sizes.many), 0] = out.reshape(block.shape)

        @pl.loop(0, frames // few)
        def _(i):
            at = i * few
            for part in lanes_of(x.shape[3]):
                slope = partial(slope_of, place_in[:, part])
                (moved,) = read(n, frames + at, few, reads_in, [slope], part)
                total = du[pl.ds(frames + at, few), 0, :, part]
                dplace_in[:, part] += jnp.sum(total * moved, axis=0)

                def weight(step, part=part):
                    return share_of(place_in[:, part], step.astype(jnp.float32))

                dn = read_back(du, frames + at, few, reads_in, weight, part)
                value = x[0, pl.ds(at, few), :, part].astype(jnp.float32)
                dgain[:, part] += jnp.sum(dn * value, axis=0)
                doffset[:, part] += jnp.sum(dn, axis=0)
                dx[0, pl.ds(at, few), :, part] = (dn * gain[:, part]).astype(dx.dtype)

    dy, first, second = g
    lanes = x.shape[3]
    inputs = [_bounds(weights, sizes), (x, of_x), (y, of_y), (dy, of_y)]
    inputs += [*((w, whole(w.shape)) for w in (first, second, *weights)), (share, of_share)]
    outputs = [(jax.ShapeDtypeStruct(x.shape, x.dtype), of_x)]
    outputs += [summed(rows, lanes)] * 3 + [summed(*weights.kernel.shape)]
    outputs += [summed(rows, width)] * 2
    scratch = [
        pltpu.VMEM((3 * frames, 1, rows, lanes), jnp.float32),
        pltpu.VMEM((frames, rows, lanes), x.dtype),
        pltpu.VMEM((3 * sizes.out, stride, rows, width), jnp.float32),
        pltpu.VMEM((3 * sizes.out, 1, rows, width), jnp.float32),
        pltpu.VMEM((3 * frames, 1, rows, lanes), jnp.float32),
    ]
    flops = 6 * x.size * weights.kernel.shape[1]
    dx, *grads = call(body, grid, inputs, outputs, scratch, flops=flops, interpret=interpret)
    dgain, doffset, dplace_in = map(over_rows, grads[:3])
    dkernel = grads[3].astype(weights.kernel.dtype)
    dbias, dplace_out = map(over_rows, grads[4:])
    return dx, Weights(dgain, doffset, dplace_in, dkernel, dbias, dplace_out), None


shift_mix.defvjp(_shift_mix_forward, _shift_mix_backward)
