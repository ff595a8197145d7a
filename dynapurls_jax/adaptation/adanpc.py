"""AdaNPC: nearest neighbours in a memory that grows (Zhang et al., ICML 2023, arXiv 2304.12566)."""

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
from dynapurls_jax.adaptation.memory import Memory, empty_memory, insert
from dynapurls_jax.adaptation.similarity import (
    embedding_of,
    sample_similarity,
    scored_vectors,
    vectors_of_class,
)
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod


@dataclass(frozen=True)
class AdaNpcSettings:
    """The paper tunes them for each dataset; these defaults are not tuned.

    Attributes:
      neighbours: `k`; all samples if there are fewer.
      capacity: stored samples of each class. The paper's memory is unbounded; here the least
        confident sample is evicted.
      threshold: only a higher confidence is stored.
    """

    neighbours: int = 16
    capacity: int = 64
    threshold: Number = 0.5

    def __post_init__(self):
        check_at_least(1, neighbours=self.neighbours, capacity=self.capacity)


def adanpc(
    model: ZeroShotMethod,
    variables: Variables,
    settings: AdaNpcSettings,
    info: StreamInfo | None = None,
) -> Method:
    """`p_c` is the weight of class c in the `k` nearest neighbours, weighted by `exp(cos / tau)`.

    The paper's memory starts with the labelled training set. Zero-shot candidates have no samples:
    here it starts with the static class vectors, which are never evicted. With an empty memory, and
    `k` at least the number of classes, the predictions are the static ones. Samples above the
    threshold are stored with their pseudo-labels.

    Raises:
      ValueError: the zero-shot method has no embedding.
    """
    e = embedding_of(model)

    def init(candidates: Candidates, active) -> Memory:
        classes = e.scored(candidates).classes
        return empty_memory(len(classes), settings.capacity, jnp.zeros(classes.shape[1:]))

    def predict(state: State, features: Any) -> Float[Array, "B C"]:
        """Log probabilities; a class without a neighbour has the probability 1e-6."""
        vectors = scored_vectors(e, variables, features, state.candidates)
        static, memory = e.scored(state.candidates).classes, state.inner_state
        others = jnp.concatenate([static[None], memory.samples.swapaxes(0, 1)])
        exists = jnp.concatenate([state.active[None], memory.filled.T & state.active])
        near = sample_similarity(e, variables, vectors, others) * e.scale(variables)
        near = jnp.where(exists, near, -jnp.inf)  # [B, 1 + K, C]
        flat = near.reshape(len(near), -1)
        count = min(settings.neighbours, flat.shape[1])
        last = jax.lax.top_k(flat, count)[0][:, -1]
        votes = jnp.where(near >= last[:, None, None], near, -jnp.inf)
        share = jax.nn.softmax(votes.reshape(flat.shape)).reshape(near.shape).sum(axis=1)
        return jnp.log(share + 1e-6)

    def learn(state: State, features: Any, logits, usable):
        p = jax.nn.softmax(logits)
        label, confidence = p.argmax(axis=-1), p.max(axis=-1)
        admitted = usable & (confidence > settings.threshold)
        vectors = scored_vectors(e, variables, features, state.candidates)
        viewed = vectors_of_class(vectors, label)
        memory = insert(state.inner_state, label, confidence, viewed, admitted)
        return memory, UpdateInfo(admitted, admitted.any())

    return Method(init, predict, learn)


ENTRY = TestTimeEntry(
    adanpc,
    AdaNpcSettings,
    "embedding",
    description="Nearest neighbours in a memory that grows",
    paper=Paper("Zhang et al., ICML 2023", "https://arxiv.org/abs/2304.12566"),
)
