"""The adaptive partition (section 3.3): text queries attend over the tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class TextAttention(nn.Module):
    """Attention of text over tokens (eq. 5-7).

    Attributes:
      width: `h`.
      unit_logits: scale the text by `sqrt(d)`, so that attention logits start with a standard
        deviation of about 1, and learn their temperature. Without it, unit rows of text give
        logits near 0.05: attention starts, and mostly stays, uniform.
    """

    width: int = 150
    unit_logits: bool = False

    def setup(self):
        self.query_map = nn.Dense(self.width, use_bias=False)
        self.key_map = nn.Dense(self.width, use_bias=False)
        if self.unit_logits:
            self.log_sharpness = self.param("log_sharpness", nn.initializers.zeros, ())

    def keys(self, tokens: Float[Array, "*B S n"]) -> Float[Array, "*B S h"]:
        """Keys (eq. 6)."""
        return self.key_map(tokens)

    def attend(
        self, keys: Float[Array, "B S h"], queries: Float[Array, "#B Q G d"]
    ) -> Float[Array, "B Q G S"]:
        """Attention weights over tokens (eq. 5 and 7); they sum to 1.

        Args:
          queries: text; with a leading axis of 1, the same for every sample.
        """
        scale = self.width**-0.5
        if self.unit_logits:
            scale = scale * jnp.sqrt(queries.shape[-1]) * jnp.exp(self.log_sharpness)
        mapped = self.query_map(queries * scale)
        mapped = jnp.broadcast_to(mapped, (keys.shape[0], *mapped.shape[1:]))
        scores = jnp.einsum("bqgh,bsh->bqgs", mapped, keys)
        return jax.nn.softmax(scores, axis=-1)
