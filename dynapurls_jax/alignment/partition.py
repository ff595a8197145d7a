"""Adaptive partitioning (section 3.3): text queries gather the joints and frames they speak of."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.alignment.heads import HEADS


class Text(NamedTuple):
    """What the text side contributes; both parts have unit rows.

    Attributes:
      classes: `F`, one row for each candidate class and granularity.
      query: the label-free queries' text, one row for each granularity.
    """

    classes: Float[Array, "C G d"]
    query: Float[Array, "G d"]


class Visual(NamedTuple):
    """What the visual side contributes: standardised tokens, and their keys (eq. 6)."""

    tokens: Float[Array, "*B S n"]
    keys: Float[Array, "*B S h"]


def unit(x: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    """Rows of unit length; the gradient is finite at zero."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


class PartitionAlignment(nn.Module):
    """Attention of text over tokens, and the head that makes it comparable with text.

    Attributes:
      head: "row" or "joint".
      text_width: `d`.
      attention: `h`.
      hidden: width of the head's hidden layer.
      dropout: in the head, while training.
      granularities: `G`.
    """

    head: str
    text_width: int
    attention: int = 150
    hidden: int = 512
    dropout: float = 0.0
    granularities: int = 8

    def setup(self):
        self.query_map = nn.Dense(self.attention, use_bias=False)
        self.key_map = nn.Dense(self.attention, use_bias=False)
        self.project = HEADS[self.head](self.text_width, self.hidden, self.dropout)
        self.alpha = self.param("alpha", nn.initializers.zeros, (self.granularities,))
        self.log_scale = self.param("log_scale", nn.initializers.constant(-math.log(0.07)), ())

    def keys(self, tokens: Float[Array, "*B S n"]) -> Float[Array, "*B S h"]:
        """Eq. 6."""
        return self.key_map(tokens)

    def gather_and_project(
        self, visual: Visual, queries: Float[Array, "#B Q G d"], train: bool = False
    ) -> Float[Array, "B Q G d"]:
        """Eq. 5 and 7-9 for `Q` sets of queries a sample, to unit rows `v`.

        Args:
          visual: of a batch.
          queries: text rows that ask; a leading axis of 1 means the same for every sample.
        """
        asked = self.query_map(queries) / jnp.sqrt(self.attention)
        asked = jnp.broadcast_to(asked, (visual.keys.shape[0], *asked.shape[1:]))
        scores = jnp.einsum("bqgh,bsh->bqgs", asked, visual.keys)
        gathered = jnp.einsum("bqgs,bsn->bqgn", jax.nn.softmax(scores, axis=-1), visual.tokens)
        return unit(self.project(gathered, train))

    def scale(self) -> Float[Array, ""]:
        """`1 / tau`, learned, at most 100."""
        return jnp.exp(jnp.minimum(self.log_scale, math.log(100.0)))

    def weights(self) -> Float[Array, " G"]:
        """The granularities' weights alpha (eq. 11), positive and summing to 1.

        The paper leaves them free; free weights would run to minus infinity under eq. 11.
        """
        return jax.nn.softmax(self.alpha)

    def __call__(self, tokens, queries, train: bool = False):
        """Touches every parameter; for initialisation."""
        visual = Visual(tokens, self.keys(tokens))
        return self.gather_and_project(visual, queries, train), self.scale(), self.weights()
