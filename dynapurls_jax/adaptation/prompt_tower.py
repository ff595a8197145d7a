"""Prompt vectors in the inputs of the text tower, for the sentences of all classes."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynapurls_jax.adaptation.api import Prompt
from dynapurls_jax.zero_shot.base import Candidates, unit

CONTEXT = 4  # embeddings that are tuned, as in the paper (section 4)


@runtime_checkable
class Tower(Protocol):
    """A text encoder that exposes its token embeddings."""

    def embedded(self, texts: list[str]) -> tuple[Array, Callable[[Array], Array]]:
        """Embeddings `[N, L, width]`, and a differentiable map from these to vectors `[N, d]`."""
        ...


def tower_prompt(
    encoder: object,
    sentences: Sequence[Sequence[Sequence[str]]],
    granularities: int,
    bind: Callable[[Array], Candidates],
) -> Prompt:
    """A prompt that adds vectors to the first `CONTEXT` embeddings after the start token.

    The prompt is the same for all sentences. The paper tunes the words before the class names; here
    these are the first words of the template.

    Args:
      encoder: of the texts; None for precomputed text vectors.
      sentences: of the candidates, in their order: `C` lists of `G` lists of phrasings, in their
        templates.
      granularities: `R`, the number of scored granularities.
      bind: text `[C, R, d]` to candidates, of the zero-shot method.

    Raises:
      ValueError: the text encoder is no `Tower`; `Prompt.start` raises it for another number of
        candidates.
    """
    if not isinstance(encoder, Tower):
        raise ValueError(
            "adapter tpt tunes a prompt through a text tower: expected text encoder clip or "
            "minilm, or adapter tpt_residual"
        )
    groups = [phrasings for row in sentences for phrasings in row[:granularities]]
    group = np.repeat(np.arange(len(groups)), [len(phrasings) for phrasings in groups])
    embeddings, encode = encoder.embedded([text for phrasings in groups for text in phrasings])

    def start(static: Candidates) -> Float[Array, "L width"]:
        if len(static.classes) != len(sentences):
            raise ValueError(
                f"expected candidates of {len(sentences)} classes, got {len(static.classes)}"
            )
        return jnp.zeros((CONTEXT, embeddings.shape[-1]), embeddings.dtype)

    def apply(prompt: Float[Array, "L width"], static: Candidates) -> Candidates:
        """Eq. 2-3, with the prompt."""
        vectors = unit(encode(embeddings.at[:, 1 : 1 + CONTEXT].add(prompt)))
        sums = jax.ops.segment_sum(vectors, group, len(groups))
        text = unit(sums).reshape(len(sentences), granularities, -1)
        return static._replace(classes=bind(text).classes)

    return Prompt(start, apply)
