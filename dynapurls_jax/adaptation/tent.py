"""Tent: entropy minimisation (Wang et al., ICLR 2021, arXiv 2006.10726)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.adaptation.dynapurls import Refinement, refine
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures


class Minimised(NamedTuple):
    """What the method remembers: `State.own`."""

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


def tent(model: ZeroShotModel, variables: Variables, settings: TentSettings) -> Method:
    """Lowers the mean entropy of a chunk's answers by scale and bias of the text features.

    The paper moves the affine parameters of normalisation layers. The head here has none, so what
    moves are those of eq. 12, as in `dynapurls`. A chunk of one sample has only itself to agree
    with: use `eval.chunk`.
    """
    optimizer = optax.adam(settings.learning_rate)

    def read(text: Text) -> Text:
        return Text(text.classes[:, : model.rows], text.query[: model.rows])

    def init(text: Text, active) -> Minimised:
        classes = read(text).classes
        refinement = Refinement(jnp.ones_like(classes), jnp.zeros_like(classes))
        return Minimised(refinement, optimizer.init(refinement))

    def logits_of(refinement: Refinement, state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        return model.score(variables, visual, refine(read(state.text), refinement, state.active))

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        return logits_of(state.own.refinement, state, visual)

    def learn(state: State, visual: VisualFeatures, logits, usable):
        def loss(refinement: Refinement) -> Float[Array, ""]:
            logits = jnp.where(state.active, logits_of(refinement, state, visual), -1e9)
            entropy = optax.softmax_cross_entropy(logits, jax.nn.softmax(logits))
            return jnp.sum(usable * entropy) / jnp.maximum(usable.sum(), 1)

        refinement, opt_state = state.own
        for _ in range(settings.steps):
            updates, opt_state = optimizer.update(jax.grad(loss)(refinement), opt_state)
            refinement = optax.apply_updates(refinement, updates)
        enough = usable.any()
        own = jax.tree.map(
            lambda new, old: jnp.where(enough, new, old),
            Minimised(refinement, opt_state),
            state.own,
        )
        return own, UpdateInfo(usable, enough)

    def classes(state: State) -> Float[Array, "C R d"]:
        return refine(read(state.text), state.own.refinement, state.active).classes

    return Method(init, predict, learn, classes)
