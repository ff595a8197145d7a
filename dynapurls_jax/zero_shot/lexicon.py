"""Any action from its name: imagined actions of a lexicon, corrected by classes of many corpora.

A lexicon has common actions, each with several names and a motion sketch, whose animation goes
through the encoder as any clip does. In features whitened within the classes of all corpora, each
centred by itself, the expected mean of an action with the name q is

    m(q) = gain * sum_a softmax_a(sharpness * s(q, a)) v(a) + sum_c kernel(q, c) coefficients(c)

where `v` are the lexicon's imagined vectors, `s` the similarity of q with the nearest name of a,
and the second term the kernel ridge regression of what the first leaves of the corpora's class
means. Left and right are mirror images: each action of the lexicon whose names tell no side stands
in three versions, and a factor for the sides multiplies both similarities. The nearest action by
cosine wins. Text is that of `text.action_names`.

It is fitted on several corpora by `fit_corpora` (`scripts/train_universal.py`), and a stream of
another corpus needs its own centre: `adaptation.recentred`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
from dynapurls_jax.zero_shot.ridge import whitening_of

_LEFT, _NEUTRAL, _RIGHT = range(len(SIDES))
# Exponents of a class's number of clips: its weight in its corpus's centre, and in the regression.
_CENTRE_POWER, _RIDGE_POWER = 0.5, 0.25


@dataclass(frozen=True)
class LexiconSettings:
    """The method's settings; defaults were chosen on corpora left out in turn.

    Attributes:
      sharpness: of the softmax over the lexicon, on similarities.
      kernel_sharpness: of the regression's kernel `exp(kernel_sharpness * (similarity - 1))`.
      ridge: regularisation, in units of the kernel's diagonal.
      one_sided: factor between a name that tells a side and one that does not.
      other_side: factor between left and right.
      error_weight: of the lexicon's errors on the corpora's classes, in the whitening.
      most_clips: clips of a class that count, at most.
      components, shrinkage, scale: see `RidgeSettings`.
    """

    sharpness: float = 20.0
    kernel_sharpness: float = 2.0
    ridge: float = 1.0
    one_sided: float = 0.5
    other_side: float = 0.1
    error_weight: float = 1.0
    most_clips: int = 60
    components: int = 100
    shrinkage: float = 0.3
    scale: float = 10.0

    def __post_init__(self):
        """Refuses values that cannot be used."""
        check_at_least(0, error_weight=self.error_weight)
        check_at_least(1, components=self.components, most_clips=self.most_clips)
        check_positive(sharpness=self.sharpness, kernel_sharpness=self.kernel_sharpness)
        check_positive(ridge=self.ridge, scale=self.scale)
        check_positive(one_sided=self.one_sided, other_side=self.other_side)
        check_share(shrinkage=self.shrinkage)


class CorpusMeans(NamedTuple):
    """What is read of a corpus.

    Attributes:
      text: of the classes.
      means: of each class's clips.
      counts: number of clips, at most `most_clips`.
      scatter: within classes, summed over `counts` clips of each.
    """

    text: Float[Array, "C d"]
    means: Float[Array, "C D"]
    counts: Float[Array, " C"]
    scatter: Float[Array, "D D"]


class ImaginedActions(NamedTuple):
    """The lexicon as text and features.

    Attributes:
      text: of all names; a row of zeros stands for nothing.
      action: which action each names.
      features: of the animated sketches.
      mirrored: of their mirror images.
    """

    text: Float[Array, "P d"]
    action: Int[Array, " P"]
    features: Float[Array, "A D"]
    mirrored: Float[Array, "A D"]


def corpus_means(
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    text: Float[np.ndarray, "C d"],
    most_clips: int,
) -> CorpusMeans:
    """Means and scatter of a corpus; every class needs a clip."""
    number = np.bincount(labels, minlength=len(text))
    means = np.stack([features[labels == label].mean(axis=0) for label in range(len(text))])
    counts = np.minimum(number, most_clips).astype(np.float32)
    residual = (features - means[labels]) * np.sqrt(counts / number)[labels][:, None]
    found = (text, means, counts, residual.T @ residual)
    return CorpusMeans(*map(jnp.asarray, found))


def fit_corpora(
    settings: LexiconSettings, corpora: Sequence[CorpusMeans], imagined: ImaginedActions
) -> Variables:
    """All in closed form, of the classes of several corpora."""
    corpora, imagined = jax.tree.map(jnp.asarray, (tuple(corpora), imagined))
    centres = [_weighted_mean(c.means, c.counts**_CENTRE_POWER) for c in corpora]
    means = jnp.concatenate([c.means - m for c, m in zip(corpora, centres, strict=True)])
    counts = jnp.concatenate([c.counts for c in corpora])
    text = jnp.concatenate([c.text for c in corpora])
    within = jnp.sum(jnp.stack([c.scatter for c in corpora]), axis=0) / counts.sum()
    versions = _versions(imagined)
    share = _shares(settings, imagined.text, imagined.action, text, len(versions))
    recalled = share @ versions.reshape(share.shape[1], -1)
    projection = _whitening(settings, within, means, recalled, counts)
    targets, recalled = means @ projection, recalled @ projection
    gain = jnp.maximum(_scale(recalled, targets), 0.0)
    weight = counts**_RIDGE_POWER
    kernel = _kernel(settings, text, text) + jnp.diag(settings.ridge * weight.mean() / weight)
    return {
        "visual": {"mean": jnp.mean(jnp.stack(centres), axis=0), "projection": projection},
        "lexicon": {
            "text": imagined.text,
            "action": imagined.action,
            "vectors": gain * (versions @ projection),
        },
        "known": {
            "text": text,
            "coefficients": jnp.linalg.solve(kernel, targets - gain * recalled),
        },
    }


def _scale(rows: Float[Array, "C D"], targets: Float[Array, "C D"]) -> Float[Array, ""]:
    """The least-squares factor from rows to targets."""
    return jnp.sum(rows * targets) / jnp.maximum(jnp.sum(rows * rows), 1e-12)


def _weighted_mean(rows: Float[Array, "C D"], weight: Float[Array, " C"]) -> Float[Array, " D"]:
    return weight @ rows / weight.sum()


def _whitening(
    settings: LexiconSettings,
    within: Float[Array, "D D"],
    means: Float[Array, "C D"],
    recalled: Float[Array, "C D"],
    counts: Float[Array, " C"],
) -> Float[Array, "D k"]:
    """Standardisation, principal components and whitening as one matrix.

    Whitened is what differs within classes, and what the lexicon says wrongly of their means.
    """
    away = means - _weighted_mean(means, counts)
    total = within + away.T @ (away * (counts / counts.sum())[:, None])
    deviation = jnp.sqrt(jnp.diag(total))
    used = deviation > 1e-6 * deviation.max()
    gain = jnp.where(used, 1 / jnp.where(used, deviation, 1.0), 0.0)
    _, axes = jnp.linalg.eigh(total * gain[:, None] * gain)
    axes = axes[:, ::-1][:, : settings.components]
    weight = jnp.sqrt(counts)[:, None] / jnp.sqrt(counts).sum()
    root = gain * jnp.sqrt(weight)
    wrong = means - _scale(recalled * root, means * root) * recalled
    noise = within + settings.error_weight * wrong.T @ (wrong * weight)
    reduced = axes.T @ (noise * gain[:, None] * gain) @ axes
    every = jnp.ones(len(reduced), bool)
    return gain[:, None] * (axes @ whitening_of(reduced, every, settings.shrinkage))


def _versions(imagined: ImaginedActions) -> Float[Array, "A 3 D"]:
    """Features of each action as done with the left, with no or with the right side named.

    A sketch is taken as right-sided, unless a name of its action says left.
    """
    actions = len(imagined.features)
    is_left = jax.ops.segment_max(sides(imagined.text)[:, _LEFT], imagined.action, actions)
    left = jnp.where(is_left[:, None] > 0.5, imagined.features, imagined.mirrored)
    versions = jnp.stack([left, imagined.features, imagined.features], axis=1)
    return versions - 0.5 * (imagined.features + imagined.mirrored).mean(axis=0)


def _shares(
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


def _kernel(
    settings: LexiconSettings, rows: Float[Array, "N d"], others: Float[Array, "M d"]
) -> Float[Array, "N M"]:
    side = sides(rows) @ _side_factors(settings) @ sides(others).T
    return side * jnp.exp(settings.kernel_sharpness * (similarity(rows, others) - 1))


def _side_factors(settings: LexiconSettings) -> Float[Array, "3 3"]:
    one, other = settings.one_sided, settings.other_side
    return jnp.array([[1, one, other], [one, 1, one], [other, one, 1]], jnp.float32)


def make(settings: LexiconSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method, for text of `action_names`, of which the global granularity is read."""

    def encode(variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B k"]:
        visual = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), variables["visual"])
        return unit((tokens.reshape(len(tokens), -1) - visual["mean"]) @ visual["projection"])

    def bind(variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        rows, known = text[:, 0], variables["known"]
        kernel = _kernel(settings, rows, known["text"].astype(jnp.float32))
        corrected = kernel @ known["coefficients"].astype(jnp.float32)
        lexicon = variables["lexicon"]
        names, vectors = (lexicon[key].astype(jnp.float32) for key in ("text", "vectors"))
        share = _shares(settings, names, lexicon["action"], rows, len(vectors))
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
