"""The fit of `zero_shot.lexicon`: class means of several corpora, and an animated lexicon."""

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
# Exponents of a class's number of clips: its weight in its corpus's centre, and in regressions.
_CENTRE_POWER, _RIDGE_POWER = 0.5, 0.5


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
    """Everything but the standardisation, in closed form, of the classes of several corpora.

    All features are squashed.
    """
    corpora, imagined = jax.tree.map(jnp.asarray, (tuple(corpora), imagined))
    centres = [_weighted_mean(c.means, c.counts**_CENTRE_POWER) for c in corpora]
    means = jnp.concatenate([c.means - m for c, m in zip(corpora, centres, strict=True)])
    counts = jnp.concatenate([c.counts for c in corpora])
    text = jnp.concatenate([c.text for c in corpora])
    within = jnp.sum(jnp.stack([c.scatter for c in corpora]), axis=0) / counts.sum()
    versions = _versions(imagined)
    share = shares(settings, imagined.text, imagined.action, text, len(versions))
    recalled = share @ versions.reshape(share.shape[1], -1)
    projection = _whitening(settings, within, means, recalled, counts)
    targets, recalled = means @ projection, recalled @ projection
    weight = counts**_RIDGE_POWER
    mapped = _linear_map(settings, recalled, targets, weight / weight.mean())
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
            "coefficients": jnp.linalg.solve(kernel, targets - recalled @ mapped),
        },
    }


def _linear_map(
    settings: LexiconSettings,
    rows: Float[Array, "C k"],
    targets: Float[Array, "C k"],
    weight: Float[Array, " C"],
) -> Float[Array, "k k"]:
    """From imagined vectors to those of clips: ridge regression towards one gain for all."""
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
