"""How like two samples are, seen with the queries of the classes that are asked about."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures


def scored_rows(
    model: ZeroShotModel, variables: Variables, text: Text, visual: VisualFeatures
) -> Float[Array, "B Q R d"]:
    """The projected rows of samples that scoring reads."""
    return model.project(variables, visual, model.queries(text)[..., : model.rows, :])


def scored_text(model: ZeroShotModel, text: Text) -> Float[Array, "C R d"]:
    """The classes' rows that scoring reads."""
    return text.classes[:, : model.rows]


def rows_of_class(rows: Float[Array, "B Q R d"], labels: Int[Array, " B"]) -> Float[Array, "B R d"]:
    """Each sample's rows as one class asks for them; label-free queries ask for all classes."""
    return rows[jnp.arange(len(rows)), labels % rows.shape[1]]


def likeness(
    model: ZeroShotModel,
    variables: Variables,
    rows: Float[Array, "B Q R d"],
    others: Float[Array, "K C R d"],
) -> Float[Array, "B K C"]:
    """Cosines of samples with `K` others, each as every class asks for it; weighted as in scoring.

    Args:
      others: for each class, the rows of the other sample that its query gives.
    """
    each = jax.vmap(model.match, in_axes=(None, None, 0), out_axes=1)
    return each(variables, rows, others) / model.scale(variables)
