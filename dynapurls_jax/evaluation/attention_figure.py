"""Attention drawn on a moving skeleton, Figure 5 of the paper."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.collections import LineCollection

from data_pipelines.skeletons import Skeleton
from dynapurls_jax.evaluation.inspection import relative_attention


def draw_attention(
    clip: Float[np.ndarray, "T V 3"],
    attention: Mapping[str, Float[np.ndarray, " S"]],
    skeleton: Skeleton,
):
    """Draws the attention of each description on six frames of a clip.

    Args:
      clip: joints of one person, in metres, without frames of zeros.
      attention: granularity to its attention over `S = T' V` tokens.

    Returns:
      The matplotlib figure, one row for each granularity.
    """
    moments = 6
    strengths, lows, highs = relative_attention(np.stack([*attention.values()]))
    grid = strengths.reshape(len(attention), -1, skeleton.num_joints)
    frames = np.linspace(0, len(clip) - 1, moments).round().astype(int)
    flat = clip[..., [0, 2]] * (-1, 1)  # from the front: the right hand is on the left
    low, high = flat.min((0, 1)), flat.max((0, 1))
    flat = (flat - (low + high) / 2) / max(float((high - low).max()), 1e-6)  # in a unit square
    figure, axis = plt.subplots(
        figsize=(1.3 * moments + 0.6, 1.35 * len(grid) + 1.0), layout="constrained"
    )
    for g, name in enumerate(attention):
        for moment, frame in enumerate(frames):
            strength = grid[g, frame * len(grid[g]) // len(clip)]
            joints = flat[frame] + (1.2 * moment, -1.3 * g)
            _draw_skeleton(axis, joints, strength, skeleton)
        label = f"{name}: {lows[g]:.2f} to {highs[g]:.2f} times uniform attention"
        axis.text(-0.6, 0.55 - 1.3 * g, label, size=8)
    axis.set(xlim=(-0.65, 1.2 * moments - 0.55), ylim=(0.1 - 1.3 * len(grid), 0.75), aspect="equal")
    axis.axis("off")
    return figure


def _draw_skeleton(
    axis, joints: Float[np.ndarray, "V 2"], strength: Float[np.ndarray, " V"], skeleton: Skeleton
) -> None:
    bones = joints[np.array(skeleton.bones)]
    axis.add_collection(LineCollection(bones, colors="#9aa5b1", linewidths=0.8, zorder=1))
    axis.scatter(
        *joints.T,
        s=4 + 60 * strength,
        c=strength,
        cmap="cividis_r",
        vmin=0,
        vmax=1,
        zorder=2,
        linewidths=0.3,
        edgecolors="black",
    )
