"""The published protocol, ORACLE: queries from the true label. Kept to show what it is worth.

Nothing that this module returns is accuracy: the true label goes in. It is the one place outside
training losses and metrics where labels are taken.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures

MARK = "ORACLE"


def oracle_logits(
    model: ZeroShotModel,
    variables: Variables,
    visual: VisualFeatures,
    text: Text,
    labels: Int[Array, " B"],
) -> Float[Array, "B C"]:
    """Logits when each sample is asked by the text of its own true class.

    Args:
      labels: positions in `text.classes`.
    """
    queries = text.classes[labels][:, None, : model.rows]
    projected = model.project(variables, visual, queries)
    return model.match(variables, projected, text.classes)


def oracle_hit_rate(model, variables, visual, text, labels) -> Float[Array, ""]:
    """Share of samples whose class wins under the oracle protocol. Not an accuracy."""
    return jnp.mean(oracle_logits(model, variables, visual, text, labels).argmax(-1) == labels)
