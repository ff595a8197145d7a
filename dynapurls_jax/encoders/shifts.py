"""The two shift operations of Shift-GCN (Cheng et al., CVPR 2020), as small batched matmuls.

Written as gathers they are cheap alone, but XLA fuses a gather into each of its consumers and
gathers again for every one of them, and its backward is a scatter. As matmuls, batched over
channels, they run on the units that accelerators are made of. Cost for each feature: `V`
multiply-adds in space and `T` in time, against `channels` for the 1x1 map beside them.

Features are laid out `[channels, T, N, V]`: then the shifts and the map are all matmuls of whole
leading or trailing blocks, and nothing is transposed (on CPU, transposing took 40 % of a step).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def spatial_shift(x: Float[Array, "channels T N V"], sign: int) -> Float[Array, "channels T N V"]:
    """Rolls channel c over the joints by c places: non-local mixing without parameters.

    Args:
      x: features `[channels, T, N, V]`.
      sign: +1 reads joint `(v + c) mod V` (before the joint-wise linear map), -1 undoes it.
    """
    channels, joints = x.shape[0], x.shape[-1]
    channel, target = np.meshgrid(np.arange(channels), np.arange(joints), indexing="ij")
    one_hot = np.zeros((channels, joints, joints), np.float32)
    one_hot[channel, (target + sign * channel) % joints, target] = 1
    return jnp.einsum("ctnu,cuv->ctnv", x, one_hot.astype(x.dtype))


def temporal_shift(
    x: Float[Array, "channels T N V"], displacement: Float[Array, " channels"], stride: int
) -> Float[Array, "channels T_out N V"]:
    """Reads each channel at a learned real displacement in time, linearly interpolated.

    Frames outside the clip are zero. The gradient to `displacement` is the plain derivative of the
    interpolation, not the sign-normalised one of the published kernel.

    Args:
      x: features `[channels, T, N, V]`.
      displacement: frames, one for each channel.
      stride: 1 or 2; stride 2 reads at `2 t + 0.5 + displacement`, and `T_out = T // 2`.
    """
    frames = jnp.arange(x.shape[1])
    start = stride * jnp.arange(x.shape[1] // stride) + 0.5 * (stride - 1)
    position = displacement[:, None] + start
    weight = jax.nn.relu(1 - jnp.abs(position[..., None] - frames))
    return jnp.einsum("cst,ctnv->csnv", weight.astype(x.dtype), x)
