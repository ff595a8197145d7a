"""Recognition by class names: features of a lexicon's animated sketches, corrected on corpora.

A lexicon has common actions, each with several names and a motion sketch. The sketch is animated
and encoded like any clip; the result is the imagined vector of the action. Features are
standardised, squashed as `arcsinh(squash * z) / squash`, and whitened within the classes of all
corpora, each centred by its own mean. In this space the expected mean of a class with the name q is

    m(q) = sum_a softmax_a(sharpness * s(q, a)) v(a) + sum_c kernel(q, c) coefficients(c)

where `v` are the imagined vectors after a linear map to the vectors of clips, and `s` is the
similarity of q with the most similar name of a. The second term is a kernel ridge regression of
the residuals of the first on the class means of the corpora. Left and right are mirror images: each
action whose names have no side has three versions, and a factor for the sides multiplies the
softmax weights and the kernel. The prediction is the class of the highest cosine. Text vectors are
those of `text.action_names`.

`lexicon_fit.fit_corpora` (`scripts/train_universal.py`) fits the method on several corpora. A
stream of another corpus needs its own centre: `adaptation.recentred`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynapurls_jax.registry import check_at_least, check_positive, check_share
from dynapurls_jax.text.action_names import SIDES, sides, similarity
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

_NEUTRAL = SIDES.index("neutral")


@dataclass(frozen=True)
class LexiconSettings:
    """The method's settings; defaults were chosen by leave-one-corpus-out validation.

    Attributes:
      sharpness: inverse temperature of the softmax over the lexicon, on similarities.
      squash: values beyond `1 / squash` standard deviations are compressed.
      kernel_sharpness, close_sharpness, close_weight: of the regression's kernel
        `exp(kernel_sharpness * (similarity - 1)) + close_weight * exp(close_sharpness * ...)`,
        scaled to 1 for equal names.
      ridge: regularisation, in units of the kernel's diagonal.
      map_ridge: regularisation of the linear map from imagined vectors to those of clips, towards
        a multiple of the identity.
      one_sided: factor between a name with a side and one without.
      other_side: factor between left and right.
      error_weight: weight of the lexicon's errors on the corpora's classes, in the whitening.
      most_clips: largest count of clips of a class.
      components, shrinkage, scale: see `RidgeSettings`.

    Raises:
      ValueError: a setting is out of range.
    """

    sharpness: float = 20.0
    squash: float = 0.3
    kernel_sharpness: float = 2.0
    close_sharpness: float = 10.0
    close_weight: float = 0.5
    ridge: float = 0.5
    map_ridge: float = 3.0
    one_sided: float = 0.5
    other_side: float = 0.1
    error_weight: float = 1.0
    most_clips: int = 60
    components: int = 150
    shrinkage: float = 0.3
    scale: float = 10.0

    def __post_init__(self):
        """Checks the values."""
        check_at_least(0, error_weight=self.error_weight, close_weight=self.close_weight)
        check_at_least(1, components=self.components, most_clips=self.most_clips)
        check_positive(sharpness=self.sharpness, kernel_sharpness=self.kernel_sharpness)
        check_positive(close_sharpness=self.close_sharpness, squash=self.squash)
        check_positive(ridge=self.ridge, map_ridge=self.map_ridge, scale=self.scale)
        check_positive(one_sided=self.one_sided, other_side=self.other_side)
        check_share(shrinkage=self.shrinkage)


def shares(
    settings: LexiconSettings,
    names: Float[Array, "P d"],
    action: Int[Array, " P"],
    text: Float[Array, "C d"],
    actions: int,
) -> Float[Array, "C versions"]:
    """Softmax weights of the versions of the lexicon's actions, for class names.

    Args:
      names: text vectors of the lexicon's names.
      action: index of the action of each name.
      text: text vectors of the classes.
      actions: `A`, number of actions.

    Returns:
      `[C, 3 A]`; rows sum to 1.
    """
    side, own = sides(text) @ _side_factors(settings), sides(names)
    # A name without a side belongs to all three versions.
    belongs = (own > 0.5) | (own[:, _NEUTRAL : _NEUTRAL + 1] > 0.5)
    score = settings.sharpness * similarity(text, names)[:, :, None] + jnp.log(side)[:, None]
    score = jnp.where(belongs, score, -jnp.inf).swapaxes(0, 1)
    best = jax.ops.segment_max(score, action, actions)
    return jax.nn.softmax(best.swapaxes(0, 1).reshape(len(text), -1), axis=1)


def kernel_of(
    settings: LexiconSettings, rows: Float[Array, "N d"], others: Float[Array, "M d"]
) -> Float[Array, "N M"]:
    """The regression's kernel: 1 for equal names, less for less similar ones and other sides."""
    side = sides(rows) @ _side_factors(settings) @ sides(others).T
    away, weight = similarity(rows, others) - 1, settings.close_weight
    wide, close = (
        jnp.exp(sharpness * away)
        for sharpness in (settings.kernel_sharpness, settings.close_sharpness)
    )
    return side * (wide + weight * close) / (1 + weight)


def _side_factors(settings: LexiconSettings) -> Float[Array, "3 3"]:
    one, other = settings.one_sided, settings.other_side
    return jnp.array([[1, one, other], [one, 1, one], [other, one, 1]], jnp.float32)


def squashed(
    settings: LexiconSettings,
    features: Float[Array, "N D"],
    mean: Float[Array, " D"],
    deviation: Float[Array, " D"],
) -> Float[Array, "N D"]:
    """Standardised features, of which large values are compressed to their logarithm."""
    return jnp.arcsinh(settings.squash * (features - mean) / deviation) / settings.squash


def make(settings: LexiconSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method, for text vectors of `action_names`; it uses the global granularity."""

    def encode(variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B k"]:
        visual = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), variables["visual"])
        flat = tokens.reshape(len(tokens), -1)
        found = squashed(settings, flat, visual["mean"], visual["deviation"])
        return unit((found - visual["centre"]) @ visual["projection"])

    def bind(variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        rows, known = text[:, 0], variables["known"]
        kernel = kernel_of(settings, rows, known["text"].astype(jnp.float32))
        corrected = kernel @ known["coefficients"].astype(jnp.float32)
        lexicon = variables["lexicon"]
        names, vectors = (lexicon[key].astype(jnp.float32) for key in ("text", "vectors"))
        share = shares(settings, names, lexicon["action"], rows, len(vectors))
        expected = share @ vectors.reshape(share.shape[1], -1) + corrected
        return Candidates(unit(expected)[:, None])

    def embed(variables: Variables, features: Float[Array, "B k"], candidates: Candidates) -> Array:
        return features[:, None, None]

    def fit(key: Array, tokens: Float[Array, "N S n"], labels: Int[Array, " N"], text: Array):
        raise ValueError(
            "method.name=lexicon is fitted on the classes of several corpora, by "
            "scripts/train_universal.py; for one dataset choose sketch or ridge"
        )

    embedding = vector_embedding(embed, settings.scale)
    return ZeroShotMethod(
        encode=encode, bind=jax.jit(bind), score=score_by(embedding), fit=fit, embedding=embedding
    )


ENTRY = MethodEntry(
    make,
    LexiconSettings,
    trained=False,
    description="Any action from its name: animated sketches of a lexicon, many corpora",
)
