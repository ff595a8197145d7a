"""The variants of `refinement.py`: methods, settings, and bounds that use labels."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from dynapurls_jax.adaptation.api import Method, State, StreamInfo, UpdateInfo
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.similarity import embedding_of, scored_vectors, vectors_of_class
from dynapurls_jax.evaluation.streams import StreamInputs
from dynapurls_jax.zero_shot.base import Variables, ZeroShotMethod, unit


@dataclass(frozen=True)
class Variant:
    """A method with its settings.

    Attributes:
      oracle: the use of labels in a bound, "prior", "labels" or "memory"; "" without labels.
    """

    settings: DynaPurlsSettings | BalancedSettings
    oracle: str = ""


PAPER = DynaPurlsSettings()
BALANCED = BalancedSettings()
VARIANTS = {
    "dynapurls, paper": Variant(PAPER),
    "dynapurls, paper, rate 0.001": Variant(replace(PAPER, learning_rate=0.001)),
    "balanced": Variant(BALANCED),
    "balanced, equal shares": Variant(replace(BALANCED, share_count=1e6)),
    "balanced, no balance": Variant(replace(BALANCED, sinkhorn_iterations=0)),
    "ORACLE prior": Variant(BALANCED, oracle="prior"),
    "ORACLE labels": Variant(BALANCED, oracle="labels"),
    "ORACLE labelled memory": Variant(PAPER, oracle="memory"),
}


def method_of(
    variant: Variant, model: ZeroShotMethod, variables: Variables, inputs: StreamInputs, labels
) -> Method:
    """The method of a variant.

    Args:
      inputs: samples in stream order, and the candidates.
      labels: in stream order, for an ORACLE, else None.
    """
    settings = variant.settings
    samples = len(jax.tree.leaves(inputs.features)[0])
    info = StreamInfo.of(inputs.features, samples)
    if isinstance(settings, DynaPurlsSettings):
        method = dynapurls(model, variables, settings, info)
        return stored_under(labels, method) if variant.oracle == "memory" else method
    if variant.oracle == "labels":
        return labelled(model, variables, settings, labels)
    prior = None
    if variant.oracle == "prior":
        prior = jnp.bincount(labels, length=len(inputs.candidates.classes)) / samples
    return balanced(model, variables, settings, info, known_prior=prior)


def labelled(
    model: ZeroShotMethod, variables: Variables, settings: BalancedSettings, labels
) -> Method:
    """ORACLE: class vectors drawn to the means of the classes' true samples. Chunk 1."""
    e = embedding_of(model)

    def init(candidates, active):
        classes = e.scored(candidates).classes
        return jnp.zeros_like(classes), jnp.zeros(len(classes))

    def predict(state: State, features):
        total, count = state.inner_state
        means = total / (count[:, None, None] + settings.prior_count)
        classes = unit(e.scored(state.candidates).classes + settings.gain * means)
        vectors = scored_vectors(e, variables, features, state.candidates)
        return e.match(variables, vectors, classes)

    def learn(state: State, features, logits, usable):
        total, count = state.inner_state
        label = labels[state.samples][None]
        vectors = scored_vectors(e, variables, features, state.candidates)
        total = total.at[label].add(vectors_of_class(vectors, label))
        return (total, count.at[label].add(1.0)), UpdateInfo(usable, usable.any())

    return Method(init, predict, learn)


def stored_under(labels, method: Method) -> Method:
    """ORACLE: the memory stores each sample under its true class, with one confidence. Chunk 1."""

    def learn(state: State, features, logits, usable):
        truth = 100 * jax.nn.one_hot(labels[state.samples], logits.shape[1])
        return method.learn(state, features, truth[None], usable)

    return method._replace(learn=learn)
