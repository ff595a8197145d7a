"""Motion sketches and ridge regression: class means from animated sketches, corrected by text.

Each class has a motion sketch (`data_pipelines.sketches`), which is animated and encoded like any
clip. In the whitened features of `ridge`, the expected mean of a class is

    m(c) = weight * gain * v(c) + (text(c) - seen mean) A

where `v` is the vector of the animated clip, centred by the seen classes, `gain` its least-squares
scale on the seen classes' means, and `A` the ridge regression of the residuals on text. The
prediction is the class of the highest cosine. Classes without a sketch have `v = 0`: without any
sketch, this is `ridge`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynapurls_jax.registry import check_at_least, check_positive, check_share
from dynapurls_jax.zero_shot.base import (
    Candidates,
    ClassText,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    score_by,
    unit,
    vector_embedding,
)
from dynapurls_jax.zero_shot.ridge import fit_whitening, text_to_visual, whitened


@dataclass(frozen=True)
class SketchSettings:
    """The method's settings; defaults were chosen on pseudo-unseen classes of three datasets.

    Attributes:
      weight: of the animated clips; 0 gives ridge regression from text.
      components, shrinkage, text_ridge, scale: see `RidgeSettings`.

    Raises:
      ValueError: a setting is out of range.
    """

    weight: float = 0.8
    components: int = 100
    shrinkage: float = 0.3
    text_ridge: float = 1.0
    scale: float = 10.0

    def __post_init__(self):
        """Checks the values."""
        check_at_least(0, weight=self.weight)
        check_at_least(1, components=self.components)
        check_positive(text_ridge=self.text_ridge, scale=self.scale)
        check_share(shrinkage=self.shrinkage)


def fit_sketches(
    settings: SketchSettings,
    tokens: Float[Array, "N S n"],
    labels: Int[Array, " N"],
    described: ClassText,
) -> Variables:
    """Fits all variables to the seen classes, in closed form.

    Args:
      described: of the `C` seen classes.
    """
    flat = tokens.reshape(len(tokens), -1)
    text = described.text.reshape(len(described.text), -1)
    visual, means = fit_whitening(flat, labels, len(text), settings.components, settings.shrinkage)
    has_sketch, vectors = _animated(visual, described)
    centre = vectors.sum(axis=0) / jnp.maximum(has_sketch.sum(), 1)
    vectors = jnp.where(has_sketch, vectors - centre, 0.0)
    size = jnp.maximum(jnp.sum(vectors * vectors), 1e-12)
    gain = jnp.maximum(jnp.sum(vectors * means) / size, 0.0)
    sketch_means, text_mean = settings.weight * gain * vectors, text.mean(axis=0)
    return {
        "visual": visual,
        "sketch_centre": centre,
        "sketch_factor": settings.weight * gain,
        "text_mean": text_mean,
        "map": text_to_visual(text - text_mean, means - sketch_means, settings.text_ridge),
    }


def _animated(visual: Variables, described: ClassText) -> tuple[Array, Float[Array, "C k"]]:
    """Which classes have a sketch `[C, 1]`, and the vectors of their animated clips, else 0."""
    flat = described.sketch.reshape(len(described.sketch), -1)
    has_sketch = jnp.isfinite(flat).all(axis=1, keepdims=True)
    return has_sketch, jnp.where(
        has_sketch, whitened(visual, jnp.where(has_sketch, flat, 0.0)), 0.0
    )


def bind_sketches(variables: Variables, described: ClassText) -> Candidates:
    """Unit vectors of the classes' expected means `[C, 1, k]`."""
    text = described.text.reshape(len(described.text), -1)
    has_sketch, vectors = _animated(variables["visual"], described)
    expected = jnp.where(has_sketch, vectors - variables["sketch_centre"], 0.0)
    corrected = (text - variables["text_mean"]) @ variables["map"]
    return Candidates(unit(variables["sketch_factor"] * expected + corrected)[:, None])


def make(settings: SketchSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""

    def encode(variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B k"]:
        return unit(whitened(variables["visual"], tokens.reshape(len(tokens), -1)))

    def embed(variables: Variables, features: Float[Array, "B k"], candidates: Candidates) -> Array:
        return features[:, None, None]

    embedding = vector_embedding(embed, settings.scale)
    return ZeroShotMethod(
        encode=encode,
        bind=bind_sketches,
        score=score_by(embedding),
        fit=lambda key, tokens, labels, text: fit_sketches(settings, tokens, labels, text),
        embedding=embedding,
    )


ENTRY = MethodEntry(
    make,
    SketchSettings,
    trained=False,
    sketches=True,
    description="Animated motion sketches, corrected by ridge regression from text",
)
