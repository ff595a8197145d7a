"""Any action from its name: imagined actions of a lexicon, corrected by classes of many corpora.

A lexicon has common actions, each with several names and a motion sketch, whose animation goes
through the encoder as any clip does. Features are standardised and squashed,
`arcsinh(squash * z) / squash`, and whitened within the classes of all corpora, each centred by
itself. There the expected mean of an action with the name q is

    m(q) = sum_a softmax_a(sharpness * s(q, a)) v(a) + sum_c kernel(q, c) coefficients(c)

where `v` are the lexicon's imagined vectors, mapped linearly to what clips look like, `s` the
similarity of q with the nearest name of a, and the second term the kernel ridge regression of what
the first leaves of the corpora's class means. Left and right are mirror images: each action of the
lexicon whose names tell no side stands in three versions, and a factor for the sides multiplies
both similarities. The nearest action by cosine wins. Text is that of `text.action_names`.

It is fitted on several corpora by `lexicon_fit.fit_corpora` (`scripts/train_universal.py`), and a
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
    """The method's settings; defaults were chosen on corpora left out in turn.

    Attributes:
      sharpness: of the softmax over the lexicon, on similarities.
      squash: how early features far from the mean are drawn in, per standard deviation.
      kernel_sharpness, close_sharpness, close_weight: of the regression's kernel
        `exp(kernel_sharpness * (similarity - 1)) + close_weight * exp(close_sharpness * ...)`,
        scaled to 1 for equal names.
      ridge: regularisation, in units of the kernel's diagonal.
      map_ridge: of the linear map from imagined vectors to those of clips, towards one gain.
      one_sided: factor between a name that tells a side and one that does not.
      other_side: factor between left and right.
      error_weight: of the lexicon's errors on the corpora's classes, in the whitening.
      most_clips: clips of a class that count, at most.
      components, shrinkage, scale: see `RidgeSettings`.
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
        """Refuses values that cannot be used."""
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
    """How much of each version of each action names recall, by the softmax over the lexicon."""
    side, own = sides(text) @ _side_factors(settings), sides(names)
    # A name without a side stands for all three versions.
    stands_for = (own > 0.5) | (own[:, _NEUTRAL : _NEUTRAL + 1] > 0.5)
    score = settings.sharpness * similarity(text, names)[:, :, None] + jnp.log(side)[:, None]
    score = jnp.where(stands_for, score, -jnp.inf).swapaxes(0, 1)
    best = jax.ops.segment_max(score, action, actions)
    return jax.nn.softmax(best.swapaxes(0, 1).reshape(len(text), -1), axis=1)


def kernel_of(
    settings: LexiconSettings, rows: Float[Array, "N d"], others: Float[Array, "M d"]
) -> Float[Array, "N M"]:
    """1 for equal names, less for less similar ones and other sides."""
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
    """Standardised features, of which large ones grow like logarithms."""
    return jnp.arcsinh(settings.squash * (features - mean) / deviation) / settings.squash


def make(settings: LexiconSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method, for text of `action_names`, of which the global granularity is read."""

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


ENTRY = MethodEntry(make, LexiconSettings, trained=False)
