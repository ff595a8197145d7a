"""AdaNPC: nearest neighbours in a memory that grows (Zhang et al., ICML 2023, arXiv 2304.12566)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.adaptation.similarity import likeness, rows_of_class, scored_rows, scored_text
from dynapurls_jax.adaptation.memory import Memory, empty_memory, insert
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures


@dataclass(frozen=True)
class AdaNpcSettings:
    """The paper chooses them for each dataset; these are ours, chosen on nothing.

    Attributes:
      neighbours: `k`, at most all that there are.
      slots: samples of a class that the memory has room for. The paper's has no end; here the
        least confident leaves.
      threshold: only a higher confidence is remembered.
    """

    neighbours: int = 16
    slots: int = 64
    threshold: Number = 0.5


def adanpc(model: ZeroShotModel, variables: Variables, settings: AdaNpcSettings) -> Method:
    """`p_c` is the share of class c in the `k` nearest, weighted by `exp(cos / tau)`.

    The paper's memory starts with the labelled training set. A zero-shot model has no sample of
    the classes that it is asked about: here it starts with their text, which stays. So with an
    empty memory, and `k` at least the number of classes, the answers are the static model's. What
    is sure enough is kept under its pseudo-label.
    """

    def init(text: Text, active) -> Memory:
        classes = scored_text(model, text)
        return empty_memory(len(classes), settings.slots, jnp.zeros(classes.shape[1:]))

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        """Log probabilities; a class without a neighbour gets a millionth."""
        rows = scored_rows(model, variables, state.text, visual)
        text, memory = scored_text(model, state.text), state.own
        others = jnp.concatenate([text[None], memory.samples.swapaxes(0, 1)])
        there = jnp.concatenate([state.active[None], memory.filled.T & state.active])
        near = likeness(model, variables, rows, others) * model.scale(variables)
        near = jnp.where(there, near, -jnp.inf)  # [B, 1 + K, C]
        flat = near.reshape(len(near), -1)
        count = min(settings.neighbours, flat.shape[1])
        last = jax.lax.top_k(flat, count)[0][:, -1]
        votes = jnp.where(near >= last[:, None, None], near, -jnp.inf)
        share = jax.nn.softmax(votes.reshape(flat.shape)).reshape(near.shape).sum(axis=1)
        return jnp.log(share + 1e-6)

    def learn(state: State, visual: VisualFeatures, logits, usable):
        p = jax.nn.softmax(logits)
        label, sure = p.argmax(axis=-1), p.max(axis=-1)
        admitted = usable & (sure > settings.threshold)
        rows = scored_rows(model, variables, state.text, visual)
        memory = insert(state.own, label, sure, rows_of_class(rows, label), admitted)
        return memory, UpdateInfo(admitted, admitted.any())

    return Method(init, predict, learn)
