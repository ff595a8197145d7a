"""Vectors of samples, and similarities of samples with each other."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynapurls_jax.adaptation.api import StreamInfo
from dynapurls_jax.zero_shot.base import Candidates, Embedding, Variables, ZeroShotMethod


def embedding_of(model: ZeroShotMethod) -> Embedding:
    """The embedding of a zero-shot method.

    Raises:
      ValueError: it has none.
    """
    if model.embedding is None:
        raise ValueError("the zero-shot method has no vectors of samples: expected one with some")
    return model.embedding


def check_tokens(model: ZeroShotMethod, name: str) -> None:
    """Refuses a zero-shot method whose features have no token axis.

    Args:
      name: of the test-time method that reads tokens.

    Raises:
      ValueError: the method has no `attend`; a sweep's model has none either, as it gets numbers of
        samples in place of their features.
    """
    if model.attend is None:
        raise ValueError(
            f"{name} reads the tokens of a sample: expected features of tokens, got a zero-shot "
            "method with pooled features, or numbers of samples in a sweep"
        )


def scored_vectors(
    embedding: Embedding, variables: Variables, features: Any, candidates: Candidates
) -> Float[Array, "B Q R e"]:
    """The vectors of samples in the granularities that are scored."""
    return embedding.embed(variables, features, embedding.scored(candidates))


def scored_shape(
    embedding: Embedding, variables: Variables, info: StreamInfo, candidates: Candidates
) -> tuple[int, ...]:
    """The shape `(Q, R, e)` of a sample's scored vectors; nothing is computed."""
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), info.sample
    )
    embed = partial(scored_vectors, embedding, variables)
    return jax.eval_shape(embed, batch, candidates).shape[1:]


def vectors_of_class(
    embedded: Float[Array, "B Q R e"], labels: Int[Array, " B"]
) -> Float[Array, "B R e"]:
    """Each sample's vectors in the view of one class; with `Q = 1` all classes share one view."""
    return embedded[jnp.arange(len(embedded)), labels % embedded.shape[1]]


def sample_similarity(
    embedding: Embedding,
    variables: Variables,
    embedded: Float[Array, "B Q R e"],
    others: Float[Array, "K C R e"],
) -> Float[Array, "B K C"]:
    """Cosines of samples with `K` others in the view of each class, weighted as in `match`.

    Args:
      others: the other samples' vectors in the view of each class.
    """
    match = jax.vmap(embedding.match, in_axes=(None, None, 0), out_axes=1)
    return match(variables, embedded, others) / embedding.scale(variables)
