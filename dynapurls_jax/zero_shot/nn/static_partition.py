"""The static partition (Fig. 4): each granularity pools the tokens of its joints and frames."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.skeletons import PARTS, Skeleton
from dynapurls_jax.text.granularities import GRANULARITIES


def pool_shares(skeleton: Skeleton, segments: int) -> Float[np.ndarray, "G S"]:
    """The weight of each token in the mean of each granularity; rows sum to 1.

    Global: all tokens. Body parts: their joints at all times (Fig. 4). Phases: all joints in a
    third of the time; a segment in two thirds counts for each by its overlap.

    Args:
      segments: `T'`.
    """
    joints = np.ones((len(GRANULARITIES), skeleton.num_joints))
    times = np.ones((len(GRANULARITIES), segments))
    for number, part in enumerate(PARTS, start=1):
        joints[number] = np.isin(np.arange(skeleton.num_joints), skeleton.parts[part])
    edges = np.linspace(0, 3, segments + 1)  # of the segments, in thirds
    for third in range(3):
        inside = np.clip(edges, third, third + 1)
        times[1 + len(PARTS) + third] = np.diff(inside)
    pool = np.einsum("gt,gv->gtv", times, joints).reshape(len(GRANULARITIES), -1)
    return (pool / pool.sum(axis=1, keepdims=True)).astype(np.float32)


class StaticPartition(nn.Module):
    """The interface of `TextAttention` with fixed weights, independent of the queries.

    Attributes:
      skeleton: of the clips.
      segments: `T'`.
    """

    skeleton: Skeleton
    segments: int

    def keys(self, tokens: Float[Array, "*B S n"]) -> Float[Array, "*B S G"]:
        """The weights of each token in the granularities."""
        shares = jnp.asarray(pool_shares(self.skeleton, self.segments)).T
        return jnp.broadcast_to(shares, (*tokens.shape[:-1], shares.shape[-1]))

    def attend(
        self, keys: Float[Array, "B S G"], queries: Float[Array, "#B Q R d"]
    ) -> Float[Array, "B Q R S"]:
        """The weights of the first `R` granularities, normalised over the given tokens."""
        shares = jnp.moveaxis(keys, -1, -2)[:, None, : queries.shape[2]]
        shares = shares / jnp.maximum(shares.sum(axis=-1, keepdims=True), 1e-9)
        return jnp.broadcast_to(shares, (len(shares), queries.shape[1], *shares.shape[2:]))
