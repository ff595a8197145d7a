"""The two shift operations of Shift-GCN (Cheng et al., CVPR 2020), as small batched matmuls.

Written as gathers they are cheap alone, but XLA fuses a gather into each of its consumers and
gathers again for every one of them, and its backward is a scatter. As matmuls, batched over
channels, they run on the units that accelerators are made of. Cost for each feature: `V`
multiply-adds in space and `T` in time, against `channels` for the 1x1 map beside them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def spatial_shift(x: Float[Array, "N T V channels"], sign: int) -> Float[Array, "N T V channels"]:
    """Rolls channel c over the joints by c places: non-local mixing without parameters.

    Args:
      x: features `[N, T, V, channels]`.
      sign: +1 reads joint `(v + c) mod V` (before the joint-wise linear map), -1 undoes it.
    """
    joints, channels = x.shape[-2:]
    target, channel = np.meshgrid(np.arange(joints), np.arange(channels), indexing="ij")
    one_hot = np.zeros((joints, joints, channels), np.float32)
    one_hot[target, (target + sign * channel) % joints, channel] = 1
    return jnp.einsum("vuc,ntuc->ntvc", one_hot.astype(x.dtype), x)


def temporal_shift(
    x: Float[Array, "N T V channels"], displacement: Float[Array, " channels"], stride: int
) -> Float[Array, "N T_out V channels"]:
    """Reads each channel at a learned real displacement in time, linearly interpolated.

    Frames outside the clip are zero. The gradient to `displacement` is the plain derivative of the
    interpolation, not the sign-normalised one of the published kernel.

    Args:
      x: features `[N, T, V, channels]`.
      displacement: frames, one for each channel.
      stride: 1 or 2; stride 2 reads at `2 t + 0.5 + displacement`, and `T_out = T // 2`.
    """
    frames = jnp.arange(x.shape[1])
    start = stride * jnp.arange(x.shape[1] // stride) + 0.5 * (stride - 1)
    position = start[:, None] + displacement
    weight = jax.nn.relu(1 - jnp.abs(position[:, None] - frames[:, None]))
    return jnp.einsum("tuc,nuvc->ntvc", weight.astype(x.dtype), x)
