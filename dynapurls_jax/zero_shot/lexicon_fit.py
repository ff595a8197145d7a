"""The fit of `zero_shot.lexicon` to class means of several corpora and an animated lexicon."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynapurls_jax.text.action_names import SIDES, sides
from dynapurls_jax.zero_shot.base import Variables
from dynapurls_jax.zero_shot.lexicon import LexiconSettings, kernel_of, shares
from dynapurls_jax.zero_shot.ridge import whitening_of

_LEFT = SIDES.index("left")
# Exponents of the number of clips of a class: its weight in the corpus centre and in regressions.
_CENTRE_POWER, _RIDGE_POWER = 0.5, 0.5


class CorpusMeans(NamedTuple):
    """Statistics of a corpus.

    Attributes:
      text: text vectors of the classes.
      means: mean features of each class.
      counts: number of clips of each class, at most `most_clips`.
      scatter: within-class scatter, summed over `counts` clips of each class.
    """

    text: Float[Array, "C d"]
    means: Float[Array, "C D"]
    counts: Float[Array, " C"]
    scatter: Float[Array, "D D"]


class ImaginedActions(NamedTuple):
    """The lexicon as text vectors and features of animated sketches.

    Attributes:
      text: text vectors of all names; rows of zeros have no effect.
      action: index of the action of each name.
      features: features of the animated sketches.
      mirrored: features of their mirror images.
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
    """Statistics of a corpus, of squashed features; every class needs a clip."""
    number = np.bincount(labels, minlength=len(text))
    means = np.stack([features[labels == label].mean(axis=0) for label in range(len(text))])
    counts = np.minimum(number, most_clips).astype(np.float32)
    residual = (features - means[labels]) * np.sqrt(counts / number)[labels][:, None]
    found = (text, means, counts, residual.T @ residual)
    return CorpusMeans(*map(jnp.asarray, found))


def fit_corpora(
    settings: LexiconSettings, corpora: Sequence[CorpusMeans], imagined: ImaginedActions
) -> Variables:
    """Fits the method to the classes of several corpora, in closed form.

    Args:
      corpora, imagined: of squashed features.

    Returns:
      The variables of the method, without "mean" and "deviation" in "visual".
    """
    corpora, imagined = jax.tree.map(jnp.asarray, (tuple(corpora), imagined))
    centres = [_weighted_mean(c.means, c.counts**_CENTRE_POWER) for c in corpora]
    means = jnp.concatenate([c.means - m for c, m in zip(corpora, centres, strict=True)])
    counts = jnp.concatenate([c.counts for c in corpora])
    text = jnp.concatenate([c.text for c in corpora])
    within = jnp.sum(jnp.stack([c.scatter for c in corpora]), axis=0) / counts.sum()
    versions = _versions(imagined)
    share = shares(settings, imagined.text, imagined.action, text, len(versions))
    predicted = share @ versions.reshape(share.shape[1], -1)
    projection = _whitening(settings, within, means, predicted, counts)
    targets, predicted = means @ projection, predicted @ projection
    weight = counts**_RIDGE_POWER
    mapped = _linear_map(settings, predicted, targets, weight / weight.mean())
    kernel = kernel_of(settings, text, text) + jnp.diag(settings.ridge * weight.mean() / weight)
    return {
        "visual": {"centre": jnp.mean(jnp.stack(centres), axis=0), "projection": projection},
        "lexicon": {
            "text": imagined.text,
            "action": imagined.action,
            "vectors": versions @ projection @ mapped,
        },
        "known": {
            "text": text,
            "coefficients": jnp.linalg.solve(kernel, targets - predicted @ mapped),
        },
    }


def _linear_map(
    settings: LexiconSettings,
    rows: Float[Array, "C k"],
    targets: Float[Array, "C k"],
    weight: Float[Array, " C"],
) -> Float[Array, "k k"]:
    """The map from imagined to clip vectors: ridge regression towards a scaled identity."""
    gain = jnp.maximum(_scale(rows, targets), 0.0)
    root = jnp.sqrt(weight)[:, None]
    rows, left = rows * root, (targets - gain * rows) * root
    inner = rows.T @ rows
    eye = jnp.eye(len(inner))
    penalty = settings.map_ridge * jnp.trace(inner) / len(inner)
    return gain * eye + jnp.linalg.solve(inner + penalty * eye, rows.T @ left)


def _scale(rows: Float[Array, "C D"], targets: Float[Array, "C D"]) -> Float[Array, ""]:
    """The least-squares factor from rows to targets."""
    return jnp.sum(rows * targets) / jnp.maximum(jnp.sum(rows * rows), 1e-12)


def _weighted_mean(rows: Float[Array, "C D"], weight: Float[Array, " C"]) -> Float[Array, " D"]:
    return weight @ rows / weight.sum()


def _whitening(
    settings: LexiconSettings,
    within: Float[Array, "D D"],
    means: Float[Array, "C D"],
    predicted: Float[Array, "C D"],
    counts: Float[Array, " C"],
) -> Float[Array, "D k"]:
    """Standardisation, principal components and whitening as one matrix.

    The whitened covariance is that within classes plus that of the lexicon's errors on their means.
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
    wrong = means - _scale(predicted * root, means * root) * predicted
    noise = within + settings.error_weight * wrong.T @ (wrong * weight)
    reduced = axes.T @ (noise * gain[:, None] * gain) @ axes
    every = jnp.ones(len(reduced), bool)
    return gain[:, None] * (axes @ whitening_of(reduced, every, settings.shrinkage))


def _versions(imagined: ImaginedActions) -> Float[Array, "A 3 D"]:
    """Features of the versions of each action: left, no side, right.

    A sketch is right-sided, unless a name of its action has the left side.
    """
    actions = len(imagined.features)
    is_left = jax.ops.segment_max(sides(imagined.text)[:, _LEFT], imagined.action, actions)
    left = jnp.where(is_left[:, None] > 0.5, imagined.features, imagined.mirrored)
    versions = jnp.stack([left, imagined.features, imagined.features], axis=1)
    return versions - 0.5 * (imagined.features + imagined.mirrored).mean(axis=0)
