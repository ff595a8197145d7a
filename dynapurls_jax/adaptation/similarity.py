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
        raise ValueError("expected a zero-shot method with an embedding, got one without")
    return model.embedding


def check_tokens(model: ZeroShotMethod, name: str) -> None:
    """Checks that the features of a zero-shot method have a token axis.

    Args:
      name: of the test-time method that needs tokens.

    Raises:
      ValueError: the method has no `attend`; the model of a sweep has none, because it gets indices
        of samples instead of features.
    """
    if model.attend is None:
        raise ValueError(
            f"{name} needs the tokens of a sample: expected a zero-shot method with token "
            "features, got pooled features, or indices of samples in a sweep"
        )


def scored_vectors(
    embedding: Embedding, variables: Variables, features: Any, candidates: Candidates
) -> Float[Array, "B Q R e"]:
    """The vectors of samples in the granularities that are scored."""
    return embedding.embed(variables, features, embedding.scored(candidates))


def scored_shape(
    embedding: Embedding, variables: Variables, info: StreamInfo, candidates: Candidates
) -> tuple[int, ...]:
    """The shape `(Q, R, e)` of a sample's scored vectors, by shape inference."""
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), info.sample
    )
    embed = partial(scored_vectors, embedding, variables)
    return jax.eval_shape(embed, batch, candidates).shape[1:]


def vectors_of_class(
    embedded: Float[Array, "B Q R e"], labels: Int[Array, " B"]
) -> Float[Array, "B R e"]:
    """Each sample's vectors for one class; with `Q = 1`, they are the same for all classes."""
    return embedded[jnp.arange(len(embedded)), labels % embedded.shape[1]]


def sample_similarity(
    embedding: Embedding,
    variables: Variables,
    embedded: Float[Array, "B Q R e"],
    others: Float[Array, "K C R e"],
) -> Float[Array, "B K C"]:
    """Cosines of samples with `K` others, for the vectors of each class, weighted as in `match`.

    Args:
      embedded: vectors of the samples.
      others: vectors of the other samples for each class.
    """
    match = jax.vmap(embedding.match, in_axes=(None, None, 0), out_axes=1)
    return match(variables, embedded, others) / embedding.scale(variables)
