"""The closed-form baseline: kernel ridge regression between text and whitened features.

Features are standardised, projected on their principal components and whitened within the classes
of the seen training clips. There are three maps:

  "text_to_visual"  kernel ridge regression from text to the seen classes' means; cosine of a clip
                    with the predicted mean of a class;
  "visual_to_text"  ridge regression from clips to the text of their class; cosine in text space;
  "eszsl"           the bilinear closed form of ESZSL (Romera-Paredes & Torr, ICML 2015).

Text is the concatenation of a class's eight unit vectors, minus the mean of the seen classes.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from data_pipelines.papers import THIS_PROJECT, Paper
from dynapurls_jax.registry import check_at_least, check_choice, check_positive, check_share
from dynapurls_jax.zero_shot.base import (
    Candidates,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    score_by,
    unit,
    vector_embedding,
)

MAPS = ("text_to_visual", "visual_to_text", "eszsl")
FEATURES = ("tokens", "mean")


@dataclass(frozen=True)
class RidgeSettings:
    """The method's settings; defaults were chosen on pseudo-unseen classes of three datasets.

    Attributes:
      map: one of `MAPS`.
      features: "tokens" side by side, or their "mean" over tokens, for wide tokens.
      components: largest number of principal components.
      shrinkage: share of the isotropic covariance in the within-class covariance.
      text_ridge: regularisation on text, in units of the mean of the kernel's diagonal.
      visual_ridge: regularisation on features, in units of their mean variance.
      scale: `1 / tau` of the logits on cosines.

    Raises:
      ValueError: a setting is out of range.
    """

    map: str = "text_to_visual"
    features: str = "tokens"
    components: int = 100
    shrinkage: float = 0.3
    text_ridge: float = 1.0
    visual_ridge: float = 10.0
    scale: float = 10.0

    def __post_init__(self):
        check_choice("map", self.map, MAPS)
        check_choice("features", self.features, FEATURES)
        check_at_least(1, components=self.components)
        check_positive(text_ridge=self.text_ridge, visual_ridge=self.visual_ridge, scale=self.scale)
        check_share(shrinkage=self.shrinkage)


@dataclass(frozen=True, eq=False)
class Ridge:
    """The functions of the method, for `make`."""

    settings: RidgeSettings

    def _flat(self, tokens: Float[Array, "N S n"]) -> Float[Array, "N D"]:
        if self.settings.features == "mean":
            return tokens.mean(axis=1)
        return tokens.reshape(len(tokens), -1)

    def fit(
        self,
        key: Array,
        tokens: Float[Array, "N S n"],
        labels: Int[Array, " N"],
        text: Float[Array, "C G d"],
    ) -> Variables:
        """Fits all variables in closed form; `key` is not used."""
        settings = self.settings
        visual, means = fit_whitening(
            self._flat(tokens), labels, len(text), settings.components, settings.shrinkage
        )
        variables = {"visual": visual, "text_mean": text.reshape(len(text), -1).mean(axis=0)}
        centred = self._centred_text(variables, text)
        if settings.map == "text_to_visual":
            return variables | {"map": text_to_visual(centred, means, settings.text_ridge)}
        features = self.encode(variables, tokens)
        gram = regularised(features.T @ features, settings.visual_ridge)
        if settings.map == "visual_to_text":
            return variables | {"map": jnp.linalg.solve(gram, features.T @ unit(centred)[labels])}
        signs = 2.0 * (labels[:, None] == jnp.arange(len(text))) - 1
        left = jnp.linalg.solve(gram, features.T @ signs)
        kernel = regularised(centred @ centred.T, settings.text_ridge)
        return variables | {"map": jnp.linalg.solve(kernel, left.T).T @ centred}

    def _centred_text(self, variables: Variables, text: Float[Array, "C G d"]):
        return text.reshape(len(text), -1) - variables["text_mean"]

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B k"]:
        """Unit whitened features, centred by the mean of the seen classes' means."""
        return unit(whitened(variables["visual"], self._flat(tokens)))

    def bind(self, variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        """Unit vectors of the classes `[C, 1, e]`: predicted means, or text.

        The dot products of ESZSL are replaced by cosines.
        """
        centred = self._centred_text(variables, text)
        if self.settings.map == "text_to_visual":
            centred = centred @ variables["map"]
        elif self.settings.map == "eszsl":
            centred = centred @ variables["map"].T
        return Candidates(unit(centred)[:, None])

    def embed(self, variables: Variables, features: Float[Array, "B k"], candidates: Candidates):
        """Unit vectors of the clips `[B, 1, 1, e]`, in the classes' space."""
        if self.settings.map == "visual_to_text":
            features = unit(features @ variables["map"])
        return features[:, None, None]


def fit_whitening(
    features: Float[Array, "N D"],
    labels: Int[Array, " N"],
    classes: int,
    components: int,
    shrinkage: float,
) -> tuple[Variables, Float[Array, "C k"]]:
    """Standardisation, principal components and within-class whitening as one affine map.

    Components without variance are set to zero, so that shapes do not depend on values.

    Returns:
      `{"mean" [D], "projection" [D, k], "centre" [k]}`, and the classes' centred means.
    """
    mean, std = features.mean(axis=0), features.std(axis=0)
    gain = jnp.where(std > 1e-6 * std.max(), 1 / jnp.maximum(std, 1e-12), 0.0)
    standardised = (features - mean) * gain
    _, sizes, axes = jnp.linalg.svd(standardised, full_matrices=False)
    count = min(components, len(sizes))
    used = sizes[:count] > 1e-5 * sizes[0]
    axes = jnp.where(used[:, None], axes[:count], 0.0)
    reduced = standardised @ axes.T
    member = (labels[:, None] == jnp.arange(classes)).astype(features.dtype)
    means = (member / jnp.maximum(member.sum(axis=0), 1)).T @ reduced
    residual = reduced - means[labels]
    covariance = residual.T @ residual / len(features)
    whitening = whitening_of(covariance, used, shrinkage)
    means = means @ whitening
    centre = means.mean(axis=0)
    visual = {
        "mean": mean,
        "projection": gain[:, None] * (axes.T @ whitening),
        "centre": centre,
    }
    return visual, means - centre


def whitened(visual: Variables, features: Float[Array, "N D"]) -> Float[Array, "N k"]:
    """Features in the whitened space of `fit_whitening`, centred by the seen classes."""
    return (features - visual["mean"]) @ visual["projection"] - visual["centre"]


def whitening_of(
    covariance: Float[Array, "k k"], used: Bool[Array, " k"], shrinkage: float
) -> Float[Array, "k k"]:
    """The inverse square root of a covariance after shrinkage towards a multiple of the identity.

    Args:
      used: components with variance; the others stay 0.
      shrinkage: weight of the multiple of the identity, from 0 to 1.
    """
    isotropic = jnp.trace(covariance) / used.sum() * jnp.diag(used.astype(covariance.dtype))
    shrunk = (1 - shrinkage) * covariance + shrinkage * isotropic
    values, vectors = jnp.linalg.eigh(shrunk)
    positive = values > 1e-7 * values[-1]
    roots = jnp.where(positive, 1 / jnp.sqrt(jnp.where(positive, values, 1.0)), 0.0)
    return (vectors * roots) @ vectors.T


def text_to_visual(
    text: Float[Array, "C D"], targets: Float[Array, "C k"], ridge: float
) -> Float[Array, "D k"]:
    """Kernel ridge regression from centred text to vectors of the classes, as a matrix.

    Args:
      ridge: regularisation, in units of the mean diagonal of the kernel.
    """
    return text.T @ jnp.linalg.solve(regularised(text @ text.T, ridge), targets)


def regularised(gram: Float[Array, "k k"], ridge: float) -> Float[Array, "k k"]:
    """A Gram matrix plus `ridge` times its mean diagonal; zeros on the diagonal are not averaged.

    The mean diagonal of a matrix of zeros, as of equal texts of all classes, counts as 1.
    """
    diagonal = jnp.diag(gram)
    mean = diagonal.sum() / jnp.maximum((diagonal > 0).sum(), 1)
    mean = jnp.where(mean > 0, mean, 1.0)
    return gram + ridge * mean * jnp.eye(len(gram))


def make(settings: RidgeSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    ridge = Ridge(settings)
    embedding = vector_embedding(ridge.embed, settings.scale)
    return ZeroShotMethod(
        encode=ridge.encode,
        bind=ridge.bind,
        score=score_by(embedding),
        fit=ridge.fit,
        embedding=embedding,
    )


@dataclass(frozen=True)
class EszslSettings(RidgeSettings):
    """`RidgeSettings` with another default map."""

    map: str = "eszsl"


ENTRY = MethodEntry(
    make,
    RidgeSettings,
    trained=False,
    description="Closed-form baseline: ridge regression from text to features",
    paper=THIS_PROJECT,
)
ESZSL = MethodEntry(
    make,
    EszslSettings,
    trained=False,
    description="Bilinear closed form between features and text",
    paper=Paper(
        "Romera-Paredes and Torr, ICML 2015",
        "https://proceedings.mlr.press/v37/romera-paredes15.html",
    ),
)
