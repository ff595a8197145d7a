"""One vector for each clip and one for each class, for methods without attention."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.registry import check_choice
from dynapurls_jax.text.granularities import GRANULARITY_SETS
from dynapurls_jax.zero_shot.base import ClassText, Variables, unit

FEATURES = ("mean", "tokens")


def check_inputs(features: str, granularities: str) -> None:
    """Refuses unknown names.

    Raises:
      ValueError: says which names are known.
    """
    check_choice("features", features, FEATURES)
    check_choice("granularities", granularities, GRANULARITY_SETS)


def pooled(tokens: Float[Array, "N S n"], features: str) -> Float[Array, "N D"]:
    """The mean of a clip's tokens (`D = n`), or its tokens side by side (`D = S n`)."""
    return tokens.mean(axis=1) if features == "mean" else tokens.reshape(len(tokens), -1)


def statistics(vectors: Float[Array, "N D"]) -> Variables:
    """Mean and standard deviation `[D]` of the training clips' vectors."""
    return {"mean": vectors.mean(axis=0), "std": vectors.std(axis=0) + 1e-3}


def standardised(known: Variables, vectors: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """Vectors in units of `statistics`."""
    return (vectors - known["mean"]) / known["std"]


def class_vectors(text: Float[Array, "C G d"] | ClassText, granularities: str) -> Array:
    """Unit vectors `[C, e]`: the texts of the chosen granularities side by side."""
    rows = text.text if isinstance(text, ClassText) else text
    chosen = rows[:, jnp.array(GRANULARITY_SETS[granularities])]
    return unit(chosen.reshape(len(rows), -1))


@dataclass(frozen=True, eq=False)
class PooledInputs:
    """The inputs of a method with settings `features` and `granularities`."""

    settings: Any

    def _text(self, text: Float[Array, "C G d"] | ClassText) -> Float[Array, "C e"]:
        return class_vectors(text, self.settings.granularities)

    def _clips(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B D"]:
        return standardised(variables["features"], pooled(tokens, self.settings.features))
