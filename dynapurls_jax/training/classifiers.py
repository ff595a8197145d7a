"""What stage 1 puts on an encoder to train it: the parameters beside the encoder's own.

Both have one submodule, `classifier`, which is left out of the trained encoder.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.zero_shot.base import unit


class Classifier(nn.Module):
    """An encoder with a linear classifier."""

    encoder: Any
    num_classes: int

    def setup(self):
        nn.share_scope(self, self.encoder)
        self.classifier = nn.Dense(self.num_classes)

    def __call__(self, clips, train: bool = False, capacity: int | None = None):
        """Class logits `[B, classes]` of clips `[B, M, T, V, c]`."""
        return self.classifier(self.encoder.pooled(clips, train, capacity))


class Projection(nn.Module):
    """Two layers to unit vectors, and the scale of their cosines."""

    width: int = 64

    def setup(self):
        self.hidden, self.out = nn.Dense(self.width), nn.Dense(self.width)
        self.log_scale = self.param("log_scale", nn.initializers.constant(2.3), ())

    def __call__(self, pooled: Float[Array, "B n"]) -> Float[Array, "B width"]:
        return unit(self.out(nn.relu(self.hidden(pooled))))


class ImaginedClassifier(nn.Module):
    """An encoder that compares clips with the imagined clip of each class.

    Recorded and imagined clips of a class are drawn together, as images and texts are in A. Radford
    et al., "Learning transferable visual models from natural language supervision", 2021.
    """

    encoder: Any

    def setup(self):
        nn.share_scope(self, self.encoder)
        self.classifier = Projection()

    def __call__(self, clips, train: bool = False, capacity: int | None = None, *, imagined):
        """Class logits `[B, classes]` of clips `[B, M, T, V, c]`.

        Args:
          imagined: of each class, `[classes, M, T, V, c]`; no batch statistics are taken of them.
        """
        ours = self.classifier(self.encoder.pooled(clips, train, capacity))
        theirs = self.classifier(self.encoder.pooled(imagined))
        return jnp.exp(self.classifier.log_scale) * ours @ theirs.T
