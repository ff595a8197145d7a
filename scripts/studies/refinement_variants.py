"""What `scripts/studies/refinement.py` compares: methods, settings, and bounds that use labels."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from dynapurls_jax.adaptation import BalancedSettings, RefineSettings, balanced, dynapurls
from dynapurls_jax.adaptation.api import UpdateInfo, Method
from dynapurls_jax.zero_shot.nn.partition import unit


@dataclass(frozen=True)
class Variant:
    """A method with its settings; `oracle` says what it is told of the labels, "" for nothing."""

    settings: RefineSettings | BalancedSettings
    oracle: str = ""
    learn_first: bool = False
    chunk: int = 1


PAPER = RefineSettings()  # the horizon is set to the stream's length
SIMPLE = BalancedSettings(
    temperature=0.05, all_rows=0, rounds=3, cap=float("inf"), passes=1, gain=4, trust=8
)
BALANCED = BalancedSettings()
VARIANTS = {
    "dynapurls, paper": Variant(PAPER),
    "dynapurls, paper, rate 0.001": Variant(replace(PAPER, learning_rate=0.001)),
    "balanced, first form": Variant(SIMPLE),
    "balanced": Variant(BALANCED),
    "balanced, no cap": Variant(replace(BALANCED, cap=float("inf"))),
    "balanced, no balance": Variant(replace(BALANCED, rounds=0)),
    "balanced, estimated prior": Variant(replace(BALANCED, prior="estimated")),
    "balanced, scored rows only": Variant(replace(BALANCED, all_rows=0)),
    "balanced, one pass": Variant(replace(BALANCED, passes=1)),
    "ORACLE prior": Variant(replace(BALANCED, cap=float("inf")), oracle="prior"),
    "ORACLE labels": Variant(BALANCED, oracle="labels"),
    "ORACLE labelled memory": Variant(PAPER, oracle="memory"),
}
SOFT = replace(PAPER, targets="balanced", learning_rate=0.003, per_class=4, pull=1.0)
SEARCH = {  # within the paper's frame: one thing changed at a time
    "soft: balanced targets, rate 0.003, 4 a class, pull 1": Variant(SOFT),
    "hard targets": Variant(replace(SOFT, targets="hard")),
    "rate 0.001": Variant(replace(SOFT, learning_rate=0.001)),
    "rate 0.01": Variant(replace(SOFT, learning_rate=0.01)),
    "no pull": Variant(replace(SOFT, pull=0.0)),
    "pull 5": Variant(replace(SOFT, pull=5.0)),
    "pull 5, rate 0.001": Variant(replace(SOFT, pull=5.0, learning_rate=0.001)),
    "pull 20": Variant(replace(SOFT, pull=20.0)),
    "pull 5, whole memory, by recency": Variant(
        replace(SOFT, pull=5.0, keep="recent", per_class=0)
    ),
    "memory by recency": Variant(replace(SOFT, keep="recent")),
    "whole memory, by recency": Variant(replace(SOFT, keep="recent", per_class=0)),
    "targets at half the temperature": Variant(replace(SOFT, target_temperature=0.5)),
    "upper half of the margins": Variant(
        replace(SOFT, confidence="margin", threshold_kind="quantile", threshold=0.5)
    ),
    "paper, learn first": Variant(PAPER, learn_first=True),
    "paper, chunks of 16": Variant(PAPER, chunk=16),
}


def method_of(variant: Variant, model, variables, stream, classes: int, labels) -> Method:
    """The method of a variant.

    Args:
      labels: in stream order, for an ORACLE, else None.
    """
    if isinstance(variant.settings, RefineSettings):
        settings = replace(variant.settings, horizon=-(-len(stream.tokens) // variant.chunk))
        sample = jax.tree.map(lambda leaf: leaf[0], stream)
        method = dynapurls(model, variables, sample, settings)
        return filed_by(labels, method) if variant.oracle == "memory" else method
    if variant.oracle == "labels":
        return labelled(model, variables, variant.settings, labels)
    shares = None
    if variant.oracle == "prior":
        shares = jnp.bincount(labels, length=classes) / len(labels)
    return balanced(model, variables, variant.settings, shares)


def labelled(model, variables, settings: BalancedSettings, labels) -> Method:
    """ORACLE: class vectors drawn to the means of what truly belongs to them. Chunk 1."""

    def project(state, visual):
        queries = model.queries(state.text)[..., : model.rows, :]
        return model.project(variables, visual, queries)

    def init(text, active):
        rows = text.classes[:, : model.rows]
        return jnp.zeros_like(rows), jnp.zeros(len(rows))

    def predict(state, visual):
        total, count = state.own
        means = total / (count[:, None, None] + settings.trust)
        classes = unit(state.text.classes[:, : model.rows] + settings.gain * means)
        return model.match(variables, project(state, visual), classes)

    def learn(state, visual, logits, usable):
        total, count = state.own
        label = labels[state.samples]
        rows = project(state, visual)[0]
        own = rows[label % len(rows)]  # label-free queries give one set of rows for all classes
        own = (total.at[label].add(own), count.at[label].add(1.0))
        return own, UpdateInfo(usable, usable.any())

    return Method(init, predict, learn)


def filed_by(labels, method: Method) -> Method:
    """ORACLE: the memory is told the true class of each sample, all equally sure. Chunk 1."""

    def learn(state, visual, logits, usable):
        told = 100 * jax.nn.one_hot(labels[state.samples], logits.shape[1])
        return method.learn(state, visual, told[None], usable)

    return method._replace(learn=learn)
