"""Tent: entropy minimisation (Wang et al., ICLR 2021, arXiv 2006.10726)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
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
from dynapurls_jax.adaptation.refinement import Refinement, no_refinement, refine
from dynapurls_jax.adaptation.similarity import embedding_of
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod


class TentState(NamedTuple):
    """The inner state: scale and bias, and Adam's moments."""

    refinement: Refinement
    opt_state: optax.OptState


@dataclass(frozen=True)
class TentSettings:
    """Defaults are the paper's for small images (section 4); its batches are of 200.

    Attributes:
      learning_rate: of Adam.
      steps: updates on each chunk.
    """

    learning_rate: Number = 0.001
    steps: int = 1

    def __post_init__(self):
        check_at_least(1, steps=self.steps)


def tent(
    model: ZeroShotMethod,
    variables: Variables,
    settings: TentSettings,
    info: StreamInfo | None = None,
) -> Method:
    """Minimises the mean entropy of a chunk's predictions by scale and bias of the class vectors.

    The paper trains the affine parameters of normalisation layers. A zero-shot method may have
    none, so here the parameters of eq. 12 are trained, as in `dynapurls`. Use an `eval.chunk` above
    1: the entropy of a single prediction is a weak signal.

    Raises:
      ValueError: the zero-shot method has no embedding.
    """
    scored = embedding_of(model).scored
    optimizer = optax.adam(settings.learning_rate)

    def init(candidates: Candidates, active) -> TentState:
        refinement = no_refinement(scored(candidates).classes)
        return TentState(refinement, optimizer.init(refinement))

    def refined(refinement: Refinement, state: State) -> Candidates:
        return refine(scored(state.candidates), refinement, state.active)

    def predict(state: State, features: Any) -> Float[Array, "B C"]:
        return model.score(variables, features, refined(state.inner_state.refinement, state))

    def learn(state: State, features: Any, logits, usable):
        def loss(refinement: Refinement) -> Float[Array, ""]:
            logits = model.score(variables, features, refined(refinement, state))
            logits = jnp.where(state.active, logits, -1e9)
            entropy = optax.softmax_cross_entropy(logits, jax.nn.softmax(logits))
            return jnp.sum(usable * entropy) / jnp.maximum(usable.sum(), 1)

        refinement, opt_state = state.inner_state
        for _ in range(settings.steps):
            updates, opt_state = optimizer.update(jax.grad(loss)(refinement), opt_state)
            refinement = optax.apply_updates(refinement, updates)
        enough = usable.any()
        inner_state = optax.tree.where(enough, TentState(refinement, opt_state), state.inner_state)
        return inner_state, UpdateInfo(usable, enough)

    def classes(state: State) -> Float[Array, "C R e"]:
        return refined(state.inner_state.refinement, state).classes

    return Method(init, predict, learn, classes)


ENTRY = TestTimeEntry(
    tent,
    TentSettings,
    "embedding",
    description="Scale and bias on class vectors by entropy minimisation",
    paper=Paper("Wang et al., ICLR 2021", "https://arxiv.org/abs/2006.10726"),
)
