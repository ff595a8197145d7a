"""The products of the graph networks: 1x1 convolutions, convolutions over frames, mixed joints.

Features are `[N, V, T, c]`, channels last, as in `layers`. `convolved` is that of `posec3d`.
"""

import operator
from collections.abc import Iterable
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynapurls_jax.encoders.frequency_conv import convolved_at_frequencies, pays
from dynapurls_jax.encoders.jit import platform, stored

Initializer = nn.initializers.Initializer
FAN_OUT = nn.initializers.variance_scaling(2, "fan_out", "normal")

_FEW_TAPS = 9  # with more, products are slower than XLA's gradient of the kernel


class Pointwise(nn.Module):
    """A 1x1 convolution: a dense layer over channels, the last axis."""

    features: int
    kernel_init: Initializer = FAN_OUT

    @nn.compact
    def __call__(self, x: Float[Array, "*axes c"]) -> Float[Array, "*axes features"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return product(x, kernel.astype(x.dtype)) + bias.astype(x.dtype)


class TemporalConv(nn.Module):
    """A convolution over frames with zeros before the first frame and after the last one."""

    features: int
    size: int
    stride: int = 1
    dilation: int = 1
    kernel_init: Initializer = FAN_OUT

    @nn.compact
    def __call__(self, x: Float[Array, "N V T c"]) -> Float[Array, "N V T_out features"]:
        n, v, t, c = x.shape
        kernel = self.param("kernel", self.kernel_init, (self.size, c, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        margin, kernel = self.dilation * (self.size - 1) // 2, jnp.asarray(kernel, x.dtype)
        # On a CPU, XLA's convolution is 50 times slower if the kernel is longer than the result.
        short = t // self.stride < self.size
        if platform() == "cpu" and (short or pays(x, kernel, self.stride, self.dilation)):
            y = convolved_at_frequencies(x, kernel, self.stride, self.dilation)
            return y + bias.astype(x.dtype)
        y = jax.lax.conv_general_dilated(
            x.reshape(n * v, t, c),
            kernel,
            window_strides=(self.stride,),
            padding=[(margin, margin)],
            rhs_dilation=(self.dilation,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return y.reshape(n, v, -1, self.features) + bias.astype(x.dtype)


def mix_joints(
    x: Float[Array, "N V T c"], graph: Float[Array, "*one V V"]
) -> Float[Array, "N V T c"]:
    """Joint `w` of the result is the sum over joints `v` of `graph[v, w]` times joint `v`.

    Args:
      graph: one for each person, or one for all.
    """
    return _mixed(x, jnp.broadcast_to(graph.astype(x.dtype), (len(x), *graph.shape[-2:])))


@jax.custom_vjp
def _mixed(x, graph):
    # A product with the transposed matrix in memory has a faster implementation.
    return jnp.einsum("nwv,nvtc->nwtc", stored(graph.swapaxes(1, 2)), x)


def _mixed_forward(x, graph):
    return _mixed(x, graph), (x, graph)


def _mixed_backward(saved, dy):
    """The gradients; JAX's own product for `x` has its joints last, and then moves the array."""
    x, graph = saved
    dy = jax.lax.optimization_barrier(dy)
    dx = jnp.einsum("nvw,nwtc->nvtc", graph, dy)
    if platform() == "cpu":  # a sum over one axis: for one over two, an array would be moved
        x, dy = (array.reshape(*array.shape[:2], -1) for array in (x, dy))
        return dx, jnp.einsum("nvr,nwr->nvw", x, dy)
    return dx, jnp.einsum("nvtc,nwtc->nvw", x, dy)


_mixed.defvjp(_mixed_forward, _mixed_backward)


def convolved(
    x: Float[Array, "B H W c"], kernel: Float[Array, "h w c d"], strides, padding, **_
) -> Float[Array, "B H_out W_out d"]:
    """A convolution over two axes, for `flax.linen.Conv(conv_general_dilated=convolved)`.

    On a CPU the gradient of the kernel is one product for each tap. XLA computes it as a
    convolution with a kernel of the size of the result. That takes twice the time over all
    convolutions of PoseC3D: up to three times for each, but 0.8 times for 3 x 3 cells.
    """
    if kernel.shape[:2] == (1, 1):
        return product(x[:, :: strides[0], :: strides[1]], kernel[0, 0])
    few = kernel.shape[0] * kernel.shape[1] <= _FEW_TAPS
    compute = _convolved_by_taps if few and platform() == "cpu" else _convolved
    return compute(x, kernel, tuple(strides), tuple(padding))


def _convolved(x, kernel, strides, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers)


_convolved_by_taps = partial(jax.custom_vjp, nondiff_argnums=(2, 3))(_convolved)


def _convolved_by_taps_forward(x, kernel, strides, padding):
    return _convolved(x, kernel, strides, padding), (x, kernel)


def _convolved_by_taps_backward(strides, padding, saved, dy):
    (x, kernel), dy = jax.lax.optimization_barrier((saved, dy))
    (dx,) = jax.linear_transpose(lambda x: _convolved(x, kernel, strides, padding), x)(dy)
    padded = jnp.pad(x, [(0, 0), *padding, (0, 0)])

    def gradient(tap):
        begins = zip(tap, strides, dy.shape[1:3], strict=True)
        rows, columns = (slice(i, i + stride * size, stride) for i, stride, size in begins)
        return _kernel_gradient(padded[:, rows, columns], dy)

    taps = [gradient(tap) for tap in np.ndindex(*kernel.shape[:2])]
    return dx, jnp.stack(taps).reshape(kernel.shape)


_convolved_by_taps.defvjp(_convolved_by_taps_forward, _convolved_by_taps_backward)


@jax.custom_vjp
def product(x: Float[Array, "*axes c"], kernel: Float[Array, "c d"]) -> Float[Array, "*axes d"]:
    """`x @ kernel`. JAX's own gradient of the kernel sums over several axes and transposes `x`."""
    return x @ kernel


def _product_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(saved, dy):
    x, kernel = saved
    return dy @ kernel.T, _kernel_gradient(x, dy)


product.defvjp(_product_forward, _product_backward)


def _kernel_gradient(
    x: Float[Array, "*axes c"], dy: Float[Array, "*axes d"]
) -> Float[Array, "c d"]:
    """The sum over all axes of the products of channels."""
    rows, dy_rows = (array.reshape(-1, array.shape[-1]) for array in (x, dy))
    return stored(rows.T) @ dy_rows  # on a CPU 1.3 to 2 times as fast as a product with `rows`


def added(parts: Iterable[Array]) -> Array:
    """The sum of one or more arrays."""
    return reduce(operator.add, parts)


def largest_of_three(x: Float[Array, "*shape"], axis: int, stride: int = 1) -> Float[Array, "..."]:
    """The maximum of each element and its two neighbours along an axis; `x` is not negative."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(i == axis),) * 2 for i in range(x.ndim)])
    parts = (jax.lax.slice_in_dim(padded, i, i + size, stride, axis) for i in range(3))
    return reduce(jnp.maximum, parts)
