"""The interface of text encoders, and class descriptions as text embeddings `F`."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dynapurls_jax.text.descriptions import ClassTexts
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.registry import TEXT_ENCODERS
from dynapurls_jax.text.settings import TextSettings


@runtime_checkable
class TextEncoder(Protocol):
    """A map from sentences to vectors of one width; `digest` identifies its weights."""

    digest: str

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, d]` float32."""
        ...


def make_text_encoder(settings: TextSettings) -> TextEncoder:
    """The encoder `settings.encoder`.

    Raises:
      ModuleNotFoundError, FileNotFoundError: its weights are missing; the message explains how to
        install them.
    """
    return TEXT_ENCODERS.entry(settings.encoder).make(settings)


def in_templates(texts: ClassTexts, templates: Mapping[str, str]) -> ClassTexts:
    """Each text in the template of its granularity (section 3.2.2).

    Args:
      texts: `C` lists of `G` lists of phrasings.
      templates: granularity to a text with one `{}`, as `TextSettings.template`.
    """
    return [
        [
            [templates[granularity].replace("{}", text) for text in phrasings]
            for granularity, phrasings in zip(GRANULARITIES, texts_of_class, strict=True)
        ]
        for texts_of_class in texts
    ]


def encode_descriptions(texts: ClassTexts, encoder: TextEncoder) -> Float[np.ndarray, "C G d"]:
    """Class descriptions to `F` (eq. 2-3): encoded, unit length, mean of phrasings, unit length.

    Args:
      texts: `C` lists of `G` lists of phrasings.

    Raises:
      ValueError: a vector has NaN or infinity.
    """
    phrasings = [phrasings for texts_of_class in texts for phrasings in texts_of_class]
    vectors = unit_vectors(encoder.encode([text for group in phrasings for text in group]))
    if not np.isfinite(vectors).all():
        raise ValueError("text encoder: expected finite vectors, got NaN or infinity")
    first = np.cumsum([0, *(len(group) for group in phrasings[:-1])])
    sums = np.add.reduceat(vectors, first, axis=0)
    return unit_vectors(sums).reshape(len(texts), len(GRANULARITIES), -1)


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[..., d]` scaled to unit length; zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
