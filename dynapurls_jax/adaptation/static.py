"""No adaptation: the zero-shot model as it was trained."""

import jax.numpy as jnp

from dynapurls_jax.adaptation.api import Learned, Method
from dynapurls_jax.alignment.model import Variables, ZeroShotModel


def static(model: ZeroShotModel, variables: Variables) -> Method:
    """The baseline that every method is measured against; it remembers nothing."""

    def predict(state, visual):
        return model.score(variables, visual, state.text)

    def learn(state, visual, logits, usable):
        return (), Learned(jnp.zeros_like(usable), jnp.array(False))

    return Method(lambda text, active: (), predict, learn)
