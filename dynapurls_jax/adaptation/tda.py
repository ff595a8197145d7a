"""TDA: a training-free adapter of two caches (Karmanov et al., CVPR 2024, arXiv 2403.18293)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.adaptation.confidence import confidence
from dynapurls_jax.adaptation.similarity import likeness, rows_of_class, scored_rows, scored_text
from dynapurls_jax.adaptation.memory import Memory, empty_memory, insert
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures


class Doubtful(NamedTuple):
    """What the negative cache keeps of a sample.

    Attributes:
      rows: as every class asks for it.
      possible: classes that it may well be, so that a sample like it is none of them for sure.
    """

    rows: Float[Array, "*axes Q R d"]
    possible: Bool[Array, "*axes C"]


class Caches(NamedTuple):
    """What the method remembers: `State.own`; both drop the highest entropy.

    Attributes:
      positive: rows `[C, K, R, d]`, as the class asks for them under which they are kept.
      negative: `Doubtful` ones.
    """

    positive: Memory
    negative: Memory


@dataclass(frozen=True)
class TdaSettings:
    """Defaults are the paper's (section 4, ImageNet).

    Attributes:
      slots, weight, sharpness: of the positive cache: samples of a class, alpha, beta.
      negative_slots, negative_weight, negative_sharpness: of the negative one.
      doubt_from, doubt_to: shares of the highest entropy, log C, between which a sample is
        offered to the negative cache. (The published code divides nats by bits: 0.29 and 0.72.)
      possible_from: probability above which a class is possible.
    """

    slots: int = 3
    weight: Number = 2.0
    sharpness: Number = 5.0
    negative_slots: int = 2
    negative_weight: Number = 0.117
    negative_sharpness: Number = 1.0
    doubt_from: Number = 0.2
    doubt_to: Number = 0.5
    possible_from: Number = 0.03


def tda(model: ZeroShotModel, variables: Variables, settings: TdaSettings) -> Method:
    """Static logits, plus the affinity to surely classified samples, less that to doubtful ones.

    With `A(z) = alpha exp(-beta (1 - z))`, `v` a sample and `k` those that are kept:

        logit_c = static_c + sum over k of class c of A+(v . k)
                           - sum over k with c possible of A-(v . k)

    Pseudo-labels and entropies are the static model's. The published code offers a sample to the
    caches before it answers: `learn_first`.
    """

    def init(text: Text, active) -> Caches:
        classes = scored_text(model, text)
        queries = model.queries(text).shape[1]
        row = jnp.zeros(classes.shape[1:])
        doubtful = Doubtful(jnp.zeros((queries, *row.shape)), jnp.zeros(len(classes), bool))
        return Caches(
            empty_memory(len(classes), settings.slots, row),
            empty_memory(len(classes), settings.negative_slots, doubtful),
        )

    def affinity(rows, others, weight, sharpness) -> Float[Array, "B K C"]:
        return weight * jnp.exp(-sharpness * (1 - likeness(model, variables, rows, others)))

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        rows = scored_rows(model, variables, state.text, visual)
        static = model.match(variables, rows, scored_text(model, state.text))
        positive, negative = state.own
        near = affinity(rows, positive.samples.swapaxes(0, 1), settings.weight, settings.sharpness)
        for_class = jnp.sum(near * positive.filled.T, axis=1)
        doubtful: Doubtful = jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), negative.samples
        )
        # One set of rows serves all classes where the queries are label-free.
        shape = (len(doubtful.rows), *static.shape[1:], *doubtful.rows.shape[2:])
        near = affinity(
            rows,
            jnp.broadcast_to(doubtful.rows, shape),
            settings.negative_weight,
            settings.negative_sharpness,
        )
        against = jnp.sum(near * (doubtful.possible & negative.filled.reshape(-1, 1)), axis=1)
        return static + for_class - against

    def learn(state: State, visual: VisualFeatures, logits, usable):
        rows = scored_rows(model, variables, state.text, visual)
        static = model.match(variables, rows, scored_text(model, state.text))
        static = jnp.where(state.active, static, -jnp.inf)
        label, sure = static.argmax(axis=-1), confidence("entropy", static)
        positive = insert(state.own.positive, label, sure, rows_of_class(rows, label), usable)
        doubt = usable & (1 - sure > settings.doubt_from) & (1 - sure < settings.doubt_to)
        doubtful = Doubtful(rows, jax.nn.softmax(static) > settings.possible_from)
        negative = insert(state.own.negative, label, sure, doubtful, doubt)
        return Caches(positive, negative), UpdateInfo(usable, usable.any())

    return Method(init, predict, learn)
