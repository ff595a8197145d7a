"""The products of the graph networks: 1x1 convolutions, convolutions over frames, mixed joints.

Features are `[N, V, T, c]`, channels last, as in `layers`.
"""

import operator
from collections.abc import Iterable
from functools import reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Initializer = nn.initializers.Initializer
FAN_OUT = nn.initializers.variance_scaling(2, "fan_out", "normal")


class Pointwise(nn.Module):
    """A 1x1 convolution: a dense layer over channels, the last axis."""

    features: int
    kernel_init: Initializer = FAN_OUT

    @nn.compact
    def __call__(self, x: Float[Array, "*axes c"]) -> Float[Array, "*axes features"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


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
        margin, kernel = self.dilation * (self.size - 1) // 2, kernel.astype(x.dtype)
        if t // self.stride < self.size:
            y = self._by_taps(jnp.pad(x, ((0, 0), (0, 0), (margin, margin), (0, 0))), kernel, t)
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

    def _by_taps(self, padded, kernel, frames: int):
        """The convolution as one product for each tap.

        Where the kernel is longer than the result, XLA's convolution on a CPU, or its gradient, is
        50 times slower.
        """
        starts = (k * self.dilation for k in range(self.size))
        shifted = (padded[:, :, start : start + frames : self.stride] for start in starts)
        return added(part @ tap for part, tap in zip(shifted, kernel, strict=True))


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
    return jnp.einsum("nvw,nvtc->nwtc", graph, x)


def _mixed_forward(x, graph):
    return _mixed(x, graph), (x, graph)


def _mixed_backward(saved, dy):
    """The gradients; JAX's own product for `x` has its joints last, and then moves the array."""
    x, graph = saved
    dy = jax.lax.optimization_barrier(dy)
    return jnp.einsum("nvw,nwtc->nvtc", graph, dy), jnp.einsum("nvtc,nwtc->nvw", x, dy)


_mixed.defvjp(_mixed_forward, _mixed_backward)


def added(parts: Iterable[Array]) -> Array:
    """The sum of one or more arrays."""
    return reduce(operator.add, parts)


def largest_of_three(x: Float[Array, "*shape"], axis: int, stride: int = 1) -> Float[Array, "..."]:
    """The maximum of each element and its two neighbours along an axis; `x` is not negative."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(i == axis),) * 2 for i in range(x.ndim)])
    parts = (jax.lax.slice_in_dim(padded, i, i + size, stride, axis) for i in range(3))
    return reduce(jnp.maximum, parts)
