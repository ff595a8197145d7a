"""SMIE (Zhou et al., ACM MM 2023): a network scores pairs of a clip and a class.

`D(x, t)` estimates mutual information; the negatives of a batch are its clips, moved by one place
(Jensen-Shannon estimator):

    L = mean softplus(-D(x_i, t_i)) + mean softplus(D(x_{i+1}, t_i))

Differs from the published code:
  - Layer normalisation of the clips at test time, too; the published test leaves it out.
  - The first layer is split into a part for clips and one for text: its products are of `B` clips
    and `C` classes, whatever pairs are scored. The function is the same.
  - The epoch is chosen on held-out seen classes, not on unseen test clips.
  - The temporal constraint is off by default, and masks tokens of the frozen encoder, not frames.

The constraint (`constraint`, published weight 0.5): a clip without much of its motion has less
information about its text, by a margin `m`:

    L += constraint max(0, m - (MI - MI_masked))

`MI_masked` has the positive pairs of the masked clips and the same negatives, which cancel. Of `T'`
segments of time, 3 in 10 with the largest change to their neighbours are dropped, then as many
others at random; the published code drops 15 and 15 of 50 frames before its encoder. A token has
seen frames of other segments, so some motion remains.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import (
    Candidates,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    score_method,
)
from dynapurls_jax.zero_shot.nn.mlp import init_layers, mlp
from dynapurls_jax.zero_shot.nn.pooling import (
    PooledInputs,
    check_inputs,
    pooled,
    statistics,
)


@dataclass(frozen=True)
class SmieSettings:
    """The method's settings; defaults are the published ones.

    Attributes:
      features: "mean" of the tokens, or all "tokens" side by side.
      granularities: texts that are concatenated, a name of `GRANULARITY_SETS`.
      hidden: width of the first layer; the second has half of it.
      constraint: weight of the temporal constraint, published as 0.5; it needs features "mean".
      margin: of the constraint.
    """

    features: str = "mean"
    granularities: str = "global"
    hidden: int = 1024
    constraint: float = 0.0
    margin: float = 0.1

    def __post_init__(self):
        check_inputs(self.features, self.granularities)
        check_at_least(2, hidden=self.hidden)
        check_at_least(0, constraint=self.constraint, margin=self.margin)
        if self.constraint and self.features != "mean":
            raise ValueError(f'constraint > 0 needs features "mean", not "{self.features}"')


@dataclass(frozen=True, eq=False)
class Smie(PooledInputs):
    """The functions of the method; `make` puts them together."""

    settings: SmieSettings
    segments: int  # `T'`

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text) -> Variables:
        """The network, and the statistics of the clips' vectors."""
        clips = pooled(tokens, self.settings.features)
        width = clips.shape[-1] + self._text(text).shape[-1]
        hidden = self.settings.hidden
        layers = init_layers(key, width, hidden, hidden // 2, 1)
        return {"params": {"network": layers}, "features": statistics(clips)}

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B D"]:
        """Standardised vectors of the clips, after layer normalisation without parameters."""
        x = self._clips(variables, tokens)
        return jax.nn.standardize(x, axis=-1, epsilon=1e-5)

    def bind(self, variables: Variables, text) -> Candidates:
        """The classes' text vectors, one granularity."""
        return Candidates(self._text(text)[:, None])

    def score(
        self, variables: Variables, features: Float[Array, "B D"], candidates: Candidates
    ) -> Float[Array, "B C"]:
        """`D` of all pairs."""
        clips, classes = self._first(variables, features, candidates.classes[:, 0])
        return self._scores(variables, clips[:, None] + classes)

    def _first(
        self, variables: Variables, clips: Float[Array, "B D"], text: Float[Array, "C d"]
    ) -> tuple[Float[Array, "B h"], Float[Array, "C h"]]:
        """The first layer's parts; the layer's output for a pair is their sum."""
        first, width = variables["params"]["network"]["layer0"], clips.shape[-1]
        return clips @ first["kernel"][:width], text @ first["kernel"][width:] + first["bias"]

    def _scores(self, variables: Variables, pairs: Float[Array, "*P h"]) -> Float[Array, "*P"]:
        """`D` from the first layer's outputs."""
        network, relu = variables["params"]["network"], jax.nn.relu
        return mlp(network, relu(pairs), [relu], first=1)[..., 0]

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """Minus the estimate of mutual information, and the temporal constraint."""
        tokens, labels = batch
        x = self.encode(variables, tokens)
        clips, classes = self._first(variables, x, self._text(text))
        both = jnp.stack([clips, jnp.roll(clips, -1, axis=0)]) + classes[labels]
        own, other = self._scores(variables, both)
        estimate = jnp.mean(jax.nn.softplus(-own) + jax.nn.softplus(other))
        if not self.settings.constraint:
            return estimate
        cube = tokens.reshape(len(tokens), self.segments, -1, tokens.shape[-1])
        masked = self.encode(variables, without_motion(key, cube)[:, None])
        clips, _ = self._first(variables, masked, self._text(text))
        masked_own = self._scores(variables, clips + classes[labels])
        lost = jnp.mean(jax.nn.softplus(-masked_own) - jax.nn.softplus(-own))
        return estimate + self.settings.constraint * jnp.maximum(0, self.settings.margin - lost)


def without_motion(key: PRNGKeyArray, tokens: Float[Array, "B T P n"]) -> Float[Array, "B n"]:
    """The mean of the tokens of some segments: without the largest motion, then at random.

    The motion of a segment is the mean squared difference to the next one plus that to the one
    before; the first and the last have one neighbour.
    """
    count = tokens.shape[1]
    dropped = dropped_segments(count)
    change = jnp.square(jnp.diff(tokens, axis=1)).mean(axis=(2, 3))
    motion = jnp.pad(change, ((0, 0), (0, 1))) + jnp.pad(change, ((0, 0), (1, 0)))
    moving = ranks(-motion) < dropped
    draws = jnp.where(moving, 2.0, jax.random.uniform(key, moving.shape))  # those of motion last
    kept = ranks(draws) < count - 2 * dropped
    return jnp.mean(tokens.mean(axis=2), axis=1, where=kept[..., None])


def dropped_segments(count: int) -> int:
    """Segments of `count` that are dropped by motion, and as many at random."""
    return max(1, 3 * count // 10)


def ranks(values: Float[Array, "B T"]) -> Int[Array, "B T"]:
    """Places in the ascending order of each row, from 0."""
    return jnp.argsort(jnp.argsort(values, axis=1), axis=1)


def make(settings: SmieSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for text of any shape, and without the constraint for any tokens.

    Raises:
      ValueError: the constraint has fewer than three segments of time.
    """
    segments = shapes.tokens[0]
    if settings.constraint and segments < 3:
        raise ValueError(f"constraint > 0 needs 3 segments of time or more, not {segments}")
    return score_method(Smie(settings, segments))


ENTRY = MethodEntry(
    make,
    SmieSettings,
    description="A network that scores pairs of clip and text, by mutual information",
    paper=Paper("Zhou et al., ACM MM 2023", "https://arxiv.org/abs/2308.03950"),
)
