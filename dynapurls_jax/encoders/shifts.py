"""The two shift operations of Shift-GCN (Cheng et al., CVPR 2020) as gathers with gather backwards.

Autodiff would turn the backward of a gather into a scatter, which is slow on every platform; both
shifts are (bi)linear maps whose adjoint is a gather again, so both define it by hand.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _permutation(joints: int, channels: int, sign: int) -> np.ndarray:
    """Source index of each (joint, channel): channel c reads joint (v + sign * c) mod V."""
    joint, channel = np.meshgrid(np.arange(joints), np.arange(channels), indexing="ij")
    return (((joint + sign * channel) % joints) * channels + channel).reshape(-1)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def spatial_shift(
    x: Float[Array, "N T V channels"], sign: int
) -> Float[Array, "N T V channels"]:
    """Rolls channel c over the joints by c places: non-local mixing without arithmetic.

    Args:
      x: features `[N, T, V, channels]`.
      sign: +1 before the joint-wise linear map, -1 after it, which undoes the roll.
    """
    n, t, v, c = x.shape
    index = _permutation(v, c, sign)
    return jnp.take(x.reshape(n, t, v * c), index, axis=-1, mode="clip").reshape(x.shape)


def _spatial_shift_fwd(x, sign):
    return spatial_shift(x, sign), None


def _spatial_shift_bwd(sign, _, g):
    # The inverse of a roll by +c is the roll by -c.
    return (spatial_shift(g, -sign),)


spatial_shift.defvjp(_spatial_shift_fwd, _spatial_shift_bwd)


def _read(x, frame):
    """x at integer frame indices `[T_out, channels]`, zero outside the clip."""
    inside = (frame >= 0) & (frame < x.shape[1])
    index = jnp.clip(frame, 0, x.shape[1] - 1)[None, :, None, :]
    return jnp.take_along_axis(x, index, axis=1, mode="clip") * inside[None, :, None, :]


def _positions(displacement, frames_out, stride):
    """Real-valued frame that each output reads, `[T_out, channels]`; stride 2 reads at +0.5."""
    start = 0.5 * (stride - 1)
    return stride * jnp.arange(frames_out)[:, None] + start + displacement[None, :]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def temporal_shift(
    x: Float[Array, "N T V channels"], displacement: Float[Array, " channels"], stride: int
) -> Float[Array, "N T_out V channels"]:
    """Reads each channel at a learned real displacement in time, linearly interpolated.

    Frames outside the clip are zero. The gradient to `displacement` is the plain derivative of the
    interpolation, not the sign-normalised one of the published kernel.

    Args:
      x: features `[N, T, V, channels]`.
      displacement: frames, one per channel.
      stride: 1 or 2; `T_out = T // stride`.
    """
    position = _positions(displacement, x.shape[1] // stride, stride)
    frame = jnp.floor(position).astype(jnp.int32)
    fraction = (position - frame).astype(x.dtype)[None, :, None, :]
    return _read(x, frame) * (1 - fraction) + _read(x, frame + 1) * fraction


def _temporal_shift_fwd(x, displacement, stride):
    return temporal_shift(x, displacement, stride), (x, displacement)


def _temporal_shift_bwd(stride, saved, g):
    x, displacement = saved
    frames = jnp.arange(x.shape[1])[:, None]
    # Output t touches frame u when |position(t) - u| < 1: at most two outputs for each frame.
    start = 0.5 * (stride - 1) + displacement[None, :]
    first = jnp.floor((frames - 1 - start) / stride).astype(jnp.int32) + 1
    dx = 0.0
    for output in (first, first + 1):
        weight = jax.nn.relu(1 - jnp.abs(stride * output + start - frames)).astype(g.dtype)
        dx = dx + _read(g, output) * weight[None, :, None, :]
    frame = jnp.floor(_positions(displacement, g.shape[1], stride)).astype(jnp.int32)
    slope = _read(x, frame + 1) - _read(x, frame)
    return dx, jnp.einsum("ntvc,ntvc->c", g, slope)


temporal_shift.defvjp(_temporal_shift_fwd, _temporal_shift_bwd)
