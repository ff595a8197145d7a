"""The two shift operations of Shift-GCN (Cheng et al., CVPR 2020), with custom gradients.

Features are laid out `[channels, T, V, N]`, persons innermost. Both shifts then copy contiguous
blocks of memory (a spatial one `N` numbers, a temporal one `V N`), the 1x1 convolutions between
them are matrix products on the leading axis, and nothing is transposed. A shift costs no more than
a copy, `2 * 4` bytes a feature. Automatic differentiation would turn the gathers into scatters; the
custom gradients are gathers too.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

displacements = partial(jax.random.uniform, minval=-1.0, maxval=1.0)  # initial ones


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def spatial_shift(x: Float[Array, "channels T V N"], sign: int) -> Float[Array, "channels T V N"]:
    """Rolls channel c over the joints by c places: non-local mixing without parameters.

    Args:
      sign: +1 reads joint `(v + c) mod V` (before the joint-wise linear map), -1 undoes it.
    """
    channels, frames, joints, persons = x.shape
    c, t, v = (jax.lax.broadcasted_iota(jnp.int32, (channels, frames, joints), i) for i in range(3))
    row = (c * frames + t) * joints + (v + sign * c) % joints
    rows = x.reshape(-1, persons).at[row.reshape(-1)].get(mode="promise_in_bounds")
    return rows.reshape(x.shape)


def _spatial_forward(x, sign):
    return spatial_shift(x, sign), None


def _spatial_backward(sign, _, g):
    return (spatial_shift(g, -sign),)


spatial_shift.defvjp(_spatial_forward, _spatial_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def temporal_shift(
    x: Float[Array, "channels T V N"],
    displacement: Float[Array, " channels"],
    stride: int,
) -> Float[Array, "channels T_out V N"]:
    """Reads each channel at a learned real displacement in time, linearly interpolated.

    Frames outside the clip are zero.

    Args:
      displacement: frames, one for each channel, float32.
      stride: 1 or 2; stride 2 reads at `2 t + 0.5 + displacement`, and `T_out = T // 2`.
    """
    place = displacement + 0.5 * (stride - 1)
    whole = jnp.floor(place)
    before = whole.astype(jnp.int32)[:, None] + stride * jnp.arange(x.shape[1] // stride)
    share = _by_channel(place - whole).astype(x.dtype)
    return _frames(x, before) * (1 - share) + _frames(x, before + 1) * share


def _temporal_forward(x, displacement, stride):
    return temporal_shift(x, displacement, stride), (x, displacement)


def _temporal_backward(stride, saved, g):
    """The transpose of the interpolation, as a gather, and the gradient of the displacements.

    The output frames s with `|stride s + place - t| < 1` read frame t: two neighbours with stride
    1, one with stride 2.
    """
    x, displacement = saved
    # A read of g for each result: XLA would write the values of a shared read to memory, twice.
    again = jax.lax.optimization_barrier(g)
    if stride == 1:
        whole = jnp.floor(-displacement)
        share = _by_channel(-displacement - whole).astype(x.dtype)
        before = whole.astype(jnp.int32)[:, None] + jnp.arange(x.shape[1])
        dx = _frames(g, before) * (1 - share) + _frames(g, before + 1) * share
        slope = _frames(again, before) - _frames(again, before + 1)
    else:
        place = jnp.arange(x.shape[1]) - (displacement + 0.5)[:, None]
        reader = 2 * jnp.floor((jnp.floor(place) + 1) / 2)  # the even one of its two neighbours
        index = (reader / 2).astype(jnp.int32)
        dx = _frames(g, index) * _by_frame(1 - jnp.abs(reader - place)).astype(x.dtype)
        slope = _frames(again, index) * _by_frame(jnp.sign(place - reader)).astype(x.dtype)
    return dx, jnp.sum((x * slope).astype(jnp.float32), axis=(1, 2, 3))


temporal_shift.defvjp(_temporal_forward, _temporal_backward)


def _frames(x: Float[Array, "channels T V N"], index: Int[Array, "channels T_out"]):
    """Frames of each channel `[channels, T_out, V, N]`; those outside the clip are zero."""
    read = jax.vmap(lambda one, at: jnp.take(one, at, axis=0, mode="clip"))(x, index)
    return jnp.where(_by_frame((index >= 0) & (index < x.shape[1])), read, 0)


def _by_channel(values: Float[Array, " channels"]):
    return values[:, None, None, None]


def _by_frame(values):
    return values[:, :, None, None]
