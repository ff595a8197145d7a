"""ReViSE (Tsai et al., ICCV 2017) in the form of its skeleton port (Gupta et al., ICIP 2021).

Two autoencoders, of clips and of text, whose hidden vectors share a distribution (maximum mean
discrepancy) and whose maps to a common space are trained by a hinge:

    L = hinge + |x - x'|^2 + |t - t'|^2 + MMD(h_x, h_t) + contraction |dh_x/dx|

Differs from the published code:
  - Clips are standardised in place of `log(1 + x)`, and decoders end without ReLU: the features of
    most encoders here have both signs.
  - The contractive term has a gradient, as in the paper; the published code clears it.
  - The score is a cosine in place of a dot product, so that test-time methods can work in the
    common space.
  - The epoch is chosen on held-out seen classes, not on unseen test clips.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least, check_positive
from dynapurls_jax.zero_shot.base import (
    Candidates,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    unit,
    vector_method,
)
from dynapurls_jax.zero_shot.nn.losses import class_hinge
from dynapurls_jax.zero_shot.nn.mlp import init_layers, mlp
from dynapurls_jax.zero_shot.nn.pooling import (
    PooledInputs,
    check_inputs,
    pooled,
    statistics,
)


@dataclass(frozen=True)
class ReviseSettings:
    """The method's settings; defaults are the published ones.

    Attributes:
      features: "mean" of the tokens, or all "tokens" side by side.
      granularities: texts that are concatenated, a name of `GRANULARITY_SETS`.
      hidden, text_hidden: widths of the autoencoders.
      common: width of the common space.
      margin: of the hinge.
      bandwidth: `b` of the kernel `exp(-b |x - y|^2)` of the discrepancy.
      contraction: weight of the contractive term.
      scale: `1 / tau` of the logits on cosines; the loss has none.
    """

    features: str = "mean"
    granularities: str = "global"
    hidden: int = 100
    text_hidden: int = 512
    common: int = 50
    margin: float = 0.3
    bandwidth: float = 32.0
    contraction: float = 1e-4
    scale: float = 1 / 0.07

    def __post_init__(self):
        check_inputs(self.features, self.granularities)
        check_at_least(1, hidden=self.hidden, text_hidden=self.text_hidden, common=self.common)
        check_at_least(0, contraction=self.contraction)
        check_positive(margin=self.margin, bandwidth=self.bandwidth, scale=self.scale)


@dataclass(frozen=True, eq=False)
class Revise(PooledInputs):
    """The functions of the method; `make` puts them together."""

    settings: ReviseSettings

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text) -> Variables:
        """Both autoencoders, both maps, and the statistics of the clips' vectors."""
        settings = self.settings
        clips = pooled(tokens, settings.features)
        width, text_width = clips.shape[-1], self._text(text).shape[-1]
        keys = jax.random.split(key, 6)
        hidden, between = settings.hidden, settings.text_hidden
        return {
            "params": {
                "encoder": init_layers(keys[0], width, hidden),
                "decoder": init_layers(keys[1], hidden, width),
                "map": init_layers(keys[2], hidden, settings.common),
                "text_encoder": init_layers(keys[3], text_width, between, hidden),
                "text_decoder": init_layers(keys[4], hidden, between, text_width),
                "text_map": init_layers(keys[5], hidden, settings.common),
            },
            "features": statistics(clips),
        }

    def _text_hidden(self, params: Variables, text: Float[Array, "C e"]) -> Float[Array, "C h"]:
        return mlp(params["text_encoder"], text, [jax.nn.relu, jax.nn.relu])

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B c"]:
        """The clips in the common space."""
        params = variables["params"]
        x = self._clips(variables, tokens)
        return mlp(params["map"], mlp(params["encoder"], x, [jax.nn.relu]), [jnp.tanh])

    def bind(self, variables: Variables, text) -> Candidates:
        """Unit vectors of the classes in the common space, one granularity."""
        params = variables["params"]
        mapped = mlp(params["text_map"], self._text_hidden(params, self._text(text)), [jnp.tanh])
        return Candidates(unit(mapped)[:, None])

    def embed(self, variables: Variables, features: Float[Array, "B c"], candidates: Candidates):
        """Unit vectors of the clips `[B, 1, 1, c]`."""
        return unit(features)[:, None, None]

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The sum of the module's docstring."""
        settings, params, (tokens, labels) = self.settings, variables["params"], batch
        x, t = self._clips(variables, tokens), self._text(text)
        hidden = mlp(params["encoder"], x, [jax.nn.relu])
        text_hidden = self._text_hidden(params, t)
        rebuilt = mlp(params["decoder"], hidden, [])
        text_rebuilt = mlp(params["text_decoder"], text_hidden, [jax.nn.relu])
        share = jax.nn.one_hot(labels, len(t)).mean(axis=0)  # of the batch, for each class
        hinge = class_hinge(
            mlp(params["map"], hidden, [jnp.tanh]),
            mlp(params["text_map"], text_hidden, [jnp.tanh]),
            labels,
            settings.margin,
        )
        return (
            hinge
            + jnp.mean((rebuilt - x) ** 2)
            + share @ jnp.mean((text_rebuilt - t) ** 2, axis=1)
            + discrepancy(hidden, text_hidden, share, settings.bandwidth)
            + settings.contraction * slope(hidden, params["encoder"]["layer0"]["kernel"])
        )


def slope(hidden: Float[Array, "B h"], kernel: Float[Array, "D h"]) -> Float[Array, ""]:
    """The norm of `d(sum of the hidden vector) / dx` of one layer with ReLU, over a batch.

    The derivative is `a W^T` with the active units `a` as 0 and 1; its squared norm is the product
    of the Gram matrices of `a` and `W`, which are smaller.
    """
    active = (hidden > 0).astype(kernel.dtype)
    return jnp.sqrt(jnp.sum((active.T @ active) * (kernel.T @ kernel)) + 1e-12)


def discrepancy(
    clips: Float[Array, "B h"],
    classes: Float[Array, "C h"],
    share: Float[Array, " C"],
    bandwidth: float,
) -> Float[Array, ""]:
    """Squared maximum mean discrepancy of clips and their text under `exp(-b |x - y|^2)`.

    All clips of a class have the same text, so pairs with text are of classes, weighted by the
    classes' `share` of the batch.
    """

    def kernel(x, y):
        squares = jnp.sum(x * x, axis=-1)[:, None] + jnp.sum(y * y, axis=-1) - 2 * x @ y.T
        return jnp.exp(-bandwidth * jnp.maximum(squares, 0))

    # The kernel is symmetric, so both of its arguments have the same gradient.
    of_clips = kernel(clips, jax.lax.stop_gradient(clips)).mean()
    of_clips = 2 * of_clips - jax.lax.stop_gradient(of_clips)
    return (
        of_clips
        + share @ kernel(classes, classes) @ share
        - 2 * (kernel(clips, classes).mean(axis=0) @ share)
    )


def make(settings: ReviseSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return vector_method(Revise(settings), settings.scale)


ENTRY = MethodEntry(
    make,
    ReviseSettings,
    description="Two autoencoders with a common space, hinge loss and equal distributions",
    paper=Paper("Tsai et al., ICCV 2017", "https://arxiv.org/abs/1703.05908"),
)
