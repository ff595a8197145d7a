"""Prompt vectors that go through the text tower with every class's texts."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from data_pipelines.corpus import Corpus
from dynapurls_jax.adaptation.tpt import Prompt
from dynapurls_jax.zero_shot.nn.partition import Text, unit
from dynapurls_jax.text.encoders import make_text_encoder
from dynapurls_jax.text.features import class_texts

CONTEXT = 4  # embeddings that are tuned, as in the paper (section 4)


@runtime_checkable
class Tower(Protocol):
    """A text encoder whose embeddings can be reached."""

    def embedded(self, texts: list[str]) -> tuple[Array, Callable[[Array], Array]]:
        """Embeddings `[N, L, width]`, and what makes vectors `[N, d]` of such, differentiable."""
        ...


def tower_prompt(
    settings: ConfigDict, corpus: Corpus, classes: Sequence[int] | Int[np.ndarray, " C"], rows: int
) -> Prompt:
    """What is tuned: a vector on each of the first embeddings after the start, for all texts alike.

    The paper tunes the words that stand before every class name; here these are the first ones of
    the template.

    Args:
      settings: `config.text`.
      classes: the candidates, in their order.
      rows: granularities that scoring reads.

    Raises:
      ValueError: the text encoder has no tower.
    """
    encoder = None if settings.encoder == "precomputed" else make_text_encoder(settings)
    if not isinstance(encoder, Tower):
        raise ValueError(
            f"text encoder {settings.encoder!r} has no tower through which a prompt could be "
            "tuned: expected clip or minilm, or adapter tpt_residual"
        )
    everything = class_texts(settings, corpus)
    groups = [everything[c][row] for c in classes for row in range(rows)]
    flat = [text for phrasings in groups for text in phrasings]
    group = np.repeat(np.arange(len(groups)), [len(phrasings) for phrasings in groups])
    embeddings, encode = encoder.embedded(flat)

    def start(static: Text) -> Float[Array, "L width"]:
        if len(static.classes) != len(classes):
            raise ValueError(f"expected text of {len(classes)} classes, got {len(static.classes)}")
        return jnp.zeros((CONTEXT, embeddings.shape[-1]), embeddings.dtype)

    def text(prompt: Float[Array, "L width"], static: Text) -> Text:
        """Eq. 2-3, with the prompt in place."""
        vectors = unit(encode(embeddings.at[:, 1 : 1 + CONTEXT].add(prompt)))
        sums = jax.ops.segment_sum(vectors, group, len(groups))
        return static._replace(classes=unit(sums).reshape(len(classes), rows, -1))

    return Prompt(start, text)
