"""No adaptation: the zero-shot model as it was trained."""

import jax
import jax.numpy as jnp

from dynapurls_jax.adaptation.api import Adapter, Prediction
from dynapurls_jax.alignment.model import Variables, ZeroShotModel
from dynapurls_jax.alignment.partition import Text, Visual


def static(model: ZeroShotModel, variables: Variables) -> Adapter:
    """The baseline that every method is measured against; its state is the text."""

    def step(text: Text, visual: Visual):
        return text, predict(model, variables, visual, text)

    return Adapter(init=lambda text: text, step=step)


def predict(model: ZeroShotModel, variables: Variables, visual: Visual, text: Text) -> Prediction:
    """The model's answer to one sample (eq. 14)."""
    logits = model.score(variables, jax.tree.map(lambda leaf: leaf[None], visual), text)[0]
    label = jnp.argmax(logits)
    return Prediction(
        label=label.astype(jnp.int32),
        confidence=jax.nn.softmax(logits)[label],
        logits=logits,
        admitted=jnp.array(False),
        adapted=jnp.array(False),
    )
