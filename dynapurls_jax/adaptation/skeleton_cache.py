"""Skeleton-Cache: a training-free cache of descriptors of body parts and phases (NeurIPS 2025).

The descriptors of a sample are its vectors in all granularities of the embedding, in place of
pooled encoder tokens.
Differs from the published code:
  - All descriptors have the same weight. The published weights of each class come from a language
    model.
  - `alpha` and `beta` are fixed. The published code reports the best of a grid by accuracy on the
    test clips.
  - One pass over the stream, and one class for each stored sample. Under some conditions the
    published code passes over it again with the full cache, and stores a sample under its second
    best class as well.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from dynapurls_jax.adaptation.api import (
    Method,
    Number,
    State,
    StreamInfo,
    TestTimeEntry,
    UpdateInfo,
)
from dynapurls_jax.adaptation.confidence import normalized_entropy
from dynapurls_jax.adaptation.memory import Memory, empty_memory, insert
from dynapurls_jax.adaptation.similarity import (
    embedding_of,
    scored_shape,
    scored_vectors,
    vectors_of_class,
)
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod, cosines


@dataclass(frozen=True)
class SkeletonCacheSettings:
    """Defaults are the published capacity, and values of the published grids.

    Attributes:
      capacity: samples of a class.
      alpha: weight of the cache; the grid is 0.5, 1, 2, 3, 5.
      beta: sharpness of the affinity; the grid is 3, 5, 7, 9.
    """

    capacity: int = 8
    alpha: Number = 2.0
    beta: Number = 5.0

    def __post_init__(self):
        check_at_least(1, capacity=self.capacity)


def skeleton_cache(
    model: ZeroShotMethod, variables: Variables, settings: SkeletonCacheSettings, info: StreamInfo
) -> Method:
    """Static logits, plus the affinity to the samples of lowest entropy of each class.

    With `v_g` a sample's unit vector in one of `G` granularities and `k_g` that of a stored one:

        logit_c = static_c + alpha / G sum over k of class c, g of exp(-beta (1 - v_g . k_g))

    Pseudo-labels and entropies are those of these logits. The cache evicts the highest entropy.

    Raises:
      ValueError: the zero-shot method has no embedding.
    """
    e = embedding_of(model)._replace(scored=lambda candidates: candidates)  # all granularities

    def init(candidates: Candidates, active) -> Memory:
        shape = scored_shape(e, variables, info, candidates)
        return empty_memory(len(candidates.classes), settings.capacity, jnp.zeros(shape[1:]))

    def predict(state: State, features: Any) -> Float[Array, "B C"]:
        static = model.score(variables, features, state.candidates)
        vectors = scored_vectors(e, variables, features, state.candidates)
        stored: Memory = state.inner_state
        near = jax.vmap(cosines, in_axes=(None, 1), out_axes=1)(vectors, stored.samples)
        affinity = jnp.exp(-settings.beta * (1 - near)).mean(axis=-1)  # [B, K, C]
        return static + settings.alpha * jnp.sum(affinity * stored.filled.T, axis=1)

    def learn(state: State, features: Any, logits, usable):
        vectors = scored_vectors(e, variables, features, state.candidates)
        label, entropy = logits.argmax(axis=-1), normalized_entropy(logits)
        viewed = vectors_of_class(vectors, label)
        memory = insert(state.inner_state, label, 1 - entropy, viewed, usable)
        return memory, UpdateInfo(usable, usable.any())

    return Method(init, predict, learn)


ENTRY = TestTimeEntry(
    skeleton_cache,
    SkeletonCacheSettings,
    "embedding",
    description="A cache of confident samples, compared in every granularity; no training",
    paper=Paper(
        "Zhu et al., NeurIPS 2025",
        "https://arxiv.org/abs/2512.11458",
    ),
)
