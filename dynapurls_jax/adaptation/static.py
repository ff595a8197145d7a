"""No adaptation: the zero-shot model as it was trained."""

import jax.numpy as jnp

from dynapurls_jax.adaptation.api import UpdateInfo, Method
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel


def static(model: ZeroShotModel, variables: Variables) -> Method:
    """The baseline that every method is measured against; it remembers nothing."""

    def predict(state, visual):
        return model.score(variables, visual, state.text)

    def learn(state, visual, logits, usable):
        return (), UpdateInfo(jnp.zeros_like(usable), jnp.array(False))

    return Method(lambda text, active: (), predict, learn)
