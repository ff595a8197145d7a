"""The heads `f_skel` that project gathered features into text space."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.text.granularities import GRANULARITIES


class RowHead(nn.Module):
    """Eq. 9: one 2-layer MLP, shared by all granularities, applied to each of them separately."""

    text_width: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, rows: Float[Array, "B Q G n"], train: bool) -> Float[Array, "B Q G d"]:
        """Projects each gathered vector `[n]` to `[d]`."""
        hidden = nn.relu(nn.Dense(self.hidden)(rows))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return nn.Dense(self.text_width)(hidden)


class JointHead(nn.Module):
    """One MLP for the concatenation of all granularities, as in the official code.

    Difference from that code: LayerNorm replaces BatchNorm, so that a prediction does not depend on
    the other samples of a batch.
    """

    text_width: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, rows: Float[Array, "B Q G n"], train: bool) -> Float[Array, "B Q G d"]:
        """Projects the `G` rows together."""
        b, q, g, n = rows.shape
        hidden = nn.silu(nn.LayerNorm()(nn.Dense(self.hidden)(rows.reshape(b, q, g * n))))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return nn.Dense(g * self.text_width)(hidden).reshape(b, q, g, self.text_width)


class SeparateHead(nn.Module):
    """A 2-layer MLP of its own for each granularity."""

    text_width: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, rows: Float[Array, "B Q G n"], train: bool) -> Float[Array, "B Q G d"]:
        """Projects each gathered vector `[n]` to `[d]` by its granularity's parameters.

        There are parameters of all granularities, even if `rows` has only the first ones.
        """
        g, n = rows.shape[2:]
        count, init = len(GRANULARITIES), nn.initializers.lecun_normal(batch_axis=(0,))
        first = self.param("first", init, (count, n, self.hidden))
        shift = self.param("first_bias", nn.initializers.zeros, (count, self.hidden))
        second = self.param("second", init, (count, self.hidden, self.text_width))
        last = self.param("second_bias", nn.initializers.zeros, (count, self.text_width))
        hidden = nn.relu(jnp.einsum("bqgn,gnh->bqgh", rows, first[:g]) + shift[:g])
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return jnp.einsum("bqgh,ghd->bqgd", hidden, second[:g]) + last[:g]


HEADS = {"row": RowHead, "joint": JointHead, "separate": SeparateHead}
