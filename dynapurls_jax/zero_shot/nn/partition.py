"""Partitioning (section 3.3): which joints and frames each description gathers.

Adaptive: text queries attend over the tokens. Static (Fig. 4): a fixed pool for each granularity.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynapurls_jax.zero_shot.nn.heads import HEADS
from dynapurls_jax.config import GRANULARITIES
from data_pipelines.skeletons import PARTS, Skeleton


class Text(NamedTuple):
    """What the text side contributes; both parts have unit rows.

    Attributes:
      classes: `F`, one row for each candidate class and granularity.
      query: the label-free queries' text, one row for each granularity.
    """

    classes: Float[Array, "C G d"]
    query: Float[Array, "G d"]


class VisualFeatures(NamedTuple):
    """What the visual side contributes: standardised tokens, and their keys (eq. 6).

    In a static partition keys are the logarithms of a token's shares in the `G` granularities.
    """

    tokens: Float[Array, "*B S n"]
    keys: Float[Array, "*B S h"]


def unit(x: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    """Rows of unit length; the gradient is finite at zero."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def static_pool(skeleton: Skeleton, segments: int) -> Float[np.ndarray, "G S"]:
    """The static partition: the share of each token in the mean of each granularity.

    Global: all tokens. Body parts: their joints at all times (Fig. 4). Phases: all joints in a
    third of the time; a segment that is in two thirds counts for each by how much of it is there.

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


class PartitionAlignment(nn.Module):
    """Attention of text over tokens, and the head that makes it comparable with text.

    Attributes:
      head: "row" or "joint".
      text_width: `d`.
      attention: `h`.
      hidden: width of the head's hidden layer.
      dropout: in the head, while training.
      granularities: `G`.
      used: which of them take part in `weights`, by their places.
      learned: whether their weights are learned, or all the same.
    """

    head: str
    text_width: int
    attention: int = 150
    hidden: int = 512
    dropout: float = 0.0
    granularities: int = 8
    used: tuple[int, ...] = tuple(range(8))
    learned: bool = True

    def setup(self):
        self.query_map = nn.Dense(self.attention, use_bias=False)
        self.key_map = nn.Dense(self.attention, use_bias=False)
        self.project = HEADS[self.head](self.text_width, self.hidden, self.dropout)
        self.alpha = self.param("alpha", nn.initializers.zeros, (self.granularities,))
        self.log_scale = self.param("log_scale", nn.initializers.constant(-math.log(0.07)), ())

    def keys(self, tokens: Float[Array, "*B S n"]) -> Float[Array, "*B S h"]:
        """Eq. 6."""
        return self.key_map(tokens)

    def attend(self, visual: VisualFeatures, queries: Float[Array, "#B Q G d"]) -> Float[Array, "B Q G S"]:
        """Eq. 5 and 7: where each description looks; sums to 1 over the tokens.

        Args:
          visual: of a batch.
          queries: text rows that ask; a leading axis of 1 means the same for every sample.
        """
        asked = self.query_map(queries) / jnp.sqrt(self.attention)
        asked = jnp.broadcast_to(asked, (visual.keys.shape[0], *asked.shape[1:]))
        scores = jnp.einsum("bqgh,bsh->bqgs", asked, visual.keys)
        return jax.nn.softmax(scores, axis=-1)

    def gather_and_project(
        self, visual: VisualFeatures, attention: Float[Array, "B Q G S"], train: bool = False
    ) -> Float[Array, "B Q G d"]:
        """Eq. 8-9: what was gathered, in text space, unit rows `v`."""
        gathered = jnp.einsum("bqgs,bsn->bqgn", attention, visual.tokens)
        return unit(self.project(gathered, train))

    def scale(self) -> Float[Array, ""]:
        """`1 / tau`, learned, at most 100."""
        return jnp.exp(jnp.minimum(self.log_scale, math.log(100.0)))

    def weights(self) -> Float[Array, " G"]:
        """The granularities' weights alpha (eq. 11), positive and summing to 1; 0 if not used.

        The paper leaves them free; free weights would run to minus infinity under eq. 11.
        """
        used = jnp.isin(jnp.arange(self.granularities), jnp.array(self.used))
        alpha = self.alpha if self.learned else jnp.zeros_like(self.alpha)
        return jax.nn.softmax(jnp.where(used, alpha, -jnp.inf))

    def __call__(self, tokens, queries, train: bool = False):
        """Touches every parameter; for initialisation."""
        visual = VisualFeatures(tokens, self.keys(tokens))
        attention = self.attend(visual, queries)
        return self.gather_and_project(visual, attention, train), self.scale(), self.weights()
