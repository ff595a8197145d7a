"""TDA: a training-free adapter of two caches (Karmanov et al., CVPR 2024, arXiv 2403.18293)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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
    sample_similarity,
    scored_shape,
    scored_vectors,
    vectors_of_class,
)
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod


class NegativeSample(NamedTuple):
    """A sample of the negative cache.

    Attributes:
      vectors: for each class.
      possible: the classes with a probability above `mask_threshold`, whose logits the sample
        lowers for similar samples.
    """

    vectors: Float[Array, "*axes Q R e"]
    possible: Bool[Array, "*axes C"]


class Caches(NamedTuple):
    """The inner state; both caches evict the highest entropy.

    Attributes:
      positive: vectors `[C, K, R, e]`, for the class that a sample is stored under.
      negative: a memory of `NegativeSample`.
    """

    positive: Memory
    negative: Memory


@dataclass(frozen=True)
class TdaSettings:
    """Defaults are the paper's (section 4, ImageNet).

    Attributes:
      capacity, alpha, beta: of the positive cache: samples of a class, weight and sharpness of the
        affinity.
      negative_capacity, negative_alpha, negative_beta: of the negative cache.
      entropy_low, entropy_high: fractions of the maximum entropy, log C, between which a sample is
        offered to the negative cache. (The published code divides nats by bits: 0.29 and 0.72.)
      mask_threshold: probability above which a class is possible.

    Raises:
      ValueError: a setting is out of range.
    """

    capacity: int = 3
    alpha: Number = 2.0
    beta: Number = 5.0
    negative_capacity: int = 2
    negative_alpha: Number = 0.117
    negative_beta: Number = 1.0
    entropy_low: Number = 0.2
    entropy_high: Number = 0.5
    mask_threshold: Number = 0.03

    def __post_init__(self):
        check_at_least(1, capacity=self.capacity, negative_capacity=self.negative_capacity)


def tda(
    model: ZeroShotMethod, variables: Variables, settings: TdaSettings, info: StreamInfo
) -> Method:
    """Static logits, plus the affinity to confident samples, minus that to uncertain ones.

    With `A(z) = alpha exp(-beta (1 - z))`, `v` a sample and `k` the stored ones:

        logit_c = static_c + sum over k of class c of A+(v . k)
                           - sum over k with c possible of A-(v . k)

    Pseudo-labels and entropies are those of the static logits. The published code offers a sample
    to the caches before it predicts: `update_before_predict`.

    Raises:
      ValueError: the zero-shot method has no embedding.
    """
    e = embedding_of(model)

    def init(candidates: Candidates, active) -> Caches:
        shape = scored_shape(e, variables, info, candidates)
        count = len(candidates.classes)
        negative = NegativeSample(jnp.zeros(shape), jnp.zeros(count, bool))
        return Caches(
            empty_memory(count, settings.capacity, jnp.zeros(shape[1:])),
            empty_memory(count, settings.negative_capacity, negative),
        )

    def static_logits(state: State, features: Any) -> tuple[Array, Array]:
        """The samples' vectors `[B, Q, R, e]` and the static logits `[B, C]`."""
        vectors = scored_vectors(e, variables, features, state.candidates)
        classes = e.scored(state.candidates).classes
        return vectors, e.match(variables, vectors, classes)

    def affinity(vectors, others, alpha, beta) -> Float[Array, "B K C"]:
        similarity = sample_similarity(e, variables, vectors, others)
        return alpha * jnp.exp(-beta * (1 - similarity))

    def predict(state: State, features: Any) -> Float[Array, "B C"]:
        vectors, static = static_logits(state, features)
        positive, negative = state.inner_state
        others = positive.samples.swapaxes(0, 1)
        near = affinity(vectors, others, settings.alpha, settings.beta)
        added = jnp.sum(near * positive.filled.T, axis=1)
        uncertain: NegativeSample = jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), negative.samples
        )
        # With Q = 1 the vectors are the same for all classes.
        shape = (len(uncertain.vectors), *static.shape[1:], *uncertain.vectors.shape[2:])
        others = jnp.broadcast_to(uncertain.vectors, shape)
        near = affinity(vectors, others, settings.negative_alpha, settings.negative_beta)
        taken = near * (uncertain.possible & negative.filled.reshape(-1, 1))
        return static + added - jnp.sum(taken, axis=1)

    def learn(state: State, features: Any, logits, usable):
        vectors, static = static_logits(state, features)
        static = jnp.where(state.active, static, -jnp.inf)
        label, entropy = static.argmax(axis=-1), normalized_entropy(static)
        positive, negative = state.inner_state
        viewed = vectors_of_class(vectors, label)
        positive = insert(positive, label, 1 - entropy, viewed, usable)
        uncertain = usable & (entropy > settings.entropy_low) & (entropy < settings.entropy_high)
        sample = NegativeSample(vectors, jax.nn.softmax(static) > settings.mask_threshold)
        negative = insert(negative, label, 1 - entropy, sample, uncertain)
        return Caches(positive, negative), UpdateInfo(usable, usable.any())

    return Method(init, predict, learn)


ENTRY = TestTimeEntry(
    tda,
    TdaSettings,
    "embedding",
    description="Two caches of confident and of uncertain samples; no training",
    paper=Paper("Karmanov et al., CVPR 2024", "https://arxiv.org/abs/2403.18293"),
)
