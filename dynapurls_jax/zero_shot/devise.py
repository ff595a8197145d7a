"""DeViSE (Frome et al., NIPS 2013): a matrix from pooled features to text, with a hinge loss.

The original maps images to words; no code for skeletons is public. The features of a clip are the
mean of its tokens. The text of a class is the concatenation of its descriptions of the chosen
granularities.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_positive
from dynapurls_jax.zero_shot.base import (
    Candidates,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    unit,
    vector_method,
)
from dynapurls_jax.zero_shot.nn.pooling import PooledInputs, check_inputs, pooled, statistics


@dataclass(frozen=True)
class DeviseSettings:
    """The method's settings.

    Attributes:
      margin: `m` of the hinge, on dot products with unit text.
      features: "mean" of the tokens, or all "tokens" side by side.
      granularities: those whose texts are concatenated, a name of `GRANULARITY_SETS`; "global" is
        one sentence for a class, as one word in the paper.
      scale: `1 / tau` of the logits on cosines; the loss has none.

    Raises:
      ValueError: a setting is out of range.
    """

    margin: float = 0.1
    features: str = "mean"
    granularities: str = "global"
    scale: float = 1 / 0.07

    def __post_init__(self):
        check_inputs(self.features, self.granularities)
        check_positive(margin=self.margin, scale=self.scale)


@dataclass(frozen=True, eq=False)
class Devise(PooledInputs):
    """The functions of the method, for `make`."""

    settings: DeviseSettings

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text) -> Variables:
        """The matrix `M` `[D, e]`, and mean and standard deviation of the pooled features `[D]`."""
        clips = pooled(tokens, self.settings.features)
        shape = (clips.shape[-1], self._text(text).shape[-1])
        matrix = jax.nn.initializers.lecun_normal()(key, shape)
        return {"params": {"matrix": matrix}, "features": statistics(clips)}

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B D"]:
        """Standardised pooled features."""
        return self._clips(variables, tokens)

    def bind(self, variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        """The classes' text vectors, one granularity."""
        return Candidates(self._text(text)[:, None])

    def embed(self, variables: Variables, features: Float[Array, "B D"], candidates: Candidates):
        """`M x` as unit vectors `[B, 1, 1, e]`."""
        return unit(features @ variables["params"]["matrix"])[:, None, None]

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: Float[Array, "C G d"],
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """Eq. 1: mean over clips of `sum over j != y of max(0, m - t_y M x + t_j M x)`."""
        tokens, labels = batch
        mapped = self.encode(variables, tokens) @ variables["params"]["matrix"]
        dots = mapped @ self._text(text).T
        own = jnp.take_along_axis(dots, labels[:, None], axis=1)
        hinge = jnp.maximum(0, self.settings.margin - own + dots)
        others = jnp.arange(dots.shape[1]) != labels[:, None]
        return jnp.where(others, hinge, 0).sum(axis=1).mean()


def make(settings: DeviseSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return vector_method(Devise(settings), settings.scale)


ENTRY = MethodEntry(
    make,
    DeviseSettings,
    description="One matrix from pooled features to text, hinge loss",
    paper=Paper(
        "Frome et al., NIPS 2013",
        "https://proceedings.neurips.cc/paper_files/paper/2013/file/7cce53cf90577442771720a370c3c723-Paper.pdf",
    ),
)
