"""Classifiers that stage 1 adds to an encoder for pretraining.

Their parameters are in the submodule `classifier`, which is removed from the trained encoder.
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
    """A two-layer projection to unit vectors, and the learned scale of their cosines."""

    width: int = 64

    def setup(self):
        self.hidden, self.out = nn.Dense(self.width), nn.Dense(self.width)
        self.log_scale = self.param("log_scale", nn.initializers.constant(2.3), ())

    def __call__(self, pooled: Float[Array, "B n"]) -> Float[Array, "B width"]:
        return unit(self.out(nn.relu(self.hidden(pooled))))


class ImaginedClassifier(nn.Module):
    """An encoder that compares clips with the imagined clip of each class.

    Logits are scaled cosines of recorded and imagined clips, as those of images and texts are in
    A. Radford et al., "Learning transferable visual models from natural language supervision",
    2021.
    """

    encoder: Any

    def setup(self):
        nn.share_scope(self, self.encoder)
        self.classifier = Projection()

    def __call__(self, clips, train: bool = False, capacity: int | None = None, *, imagined):
        """Class logits `[B, classes]` of clips `[B, M, T, V, c]`.

        Args:
          imagined: the imagined clip of each class, `[classes, M, T, V, c]`; excluded from the
            batch statistics.
        """
        recorded_rows = self.classifier(self.encoder.pooled(clips, train, capacity))
        imagined_rows = self.classifier(self.encoder.pooled(imagined))
        return jnp.exp(self.classifier.log_scale) * recorded_rows @ imagined_rows.T
