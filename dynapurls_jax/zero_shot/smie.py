"""SMIE (Zhou et al., ACM MM 2023): a network scores pairs of a clip and a class.

`D(x, t)` estimates mutual information; the negatives of a batch are its clips, moved by one place
(Jensen-Shannon estimator):

    L = mean softplus(-D(x_i, t_i)) + mean softplus(D(x_{i+1}, t_i))

Differs from the published code:
  - Layer normalisation of the clips at test time, too; the published test leaves it out.
  - The first layer is split into a part for clips and one for text: its products are of `B` clips
    and `C` classes, whatever pairs are scored. The function is the same.
  - The epoch is chosen on held-out seen classes, not on unseen test clips.
The temporal constraint on masked clips is not part of it.
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
    """

    features: str = "mean"
    granularities: str = "global"
    hidden: int = 1024

    def __post_init__(self):
        check_inputs(self.features, self.granularities)
        check_at_least(2, hidden=self.hidden)


@dataclass(frozen=True, eq=False)
class Smie(PooledInputs):
    """The functions of the method; `make` puts them together."""

    settings: SmieSettings

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
        """Minus the estimate of mutual information."""
        tokens, labels = batch
        x = self.encode(variables, tokens)
        clips, classes = self._first(variables, x, self._text(text))
        both = jnp.stack([clips, jnp.roll(clips, -1, axis=0)]) + classes[labels]
        own, other = self._scores(variables, both)
        return jnp.mean(jax.nn.softplus(-own) + jax.nn.softplus(other))


def make(settings: SmieSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return score_method(Smie(settings))


ENTRY = MethodEntry(
    make,
    SmieSettings,
    description="A network that scores pairs of clip and text, by mutual information",
    paper=Paper("Zhou et al., ACM MM 2023", "https://arxiv.org/abs/2308.03950"),
)
