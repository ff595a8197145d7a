"""TDSM (Do & Kim, ICCV 2025): a diffusion model scores pairs of a clip and a class.

A transformer `E` of two streams, one token of the clip and the class's texts, predicts the noise
`e` in a noisy clip `x_t = sqrt(a_t) x + sqrt(1 - a_t) e`, at a time `t` of 50. With
`D(x, c) = mean over numbers of (E(x_t, t, c) - e)^2` and the text of a random seen class `c'`:

    L = mean D(x_i, y_i) + mean [c'_i != y_i] max(0, D(x_i, y_i) - D(x_i, c'_i) + margin)

The class of a clip is the one with the least `D`, summed over three fixed noises at `t = 25`.
Differs from the published code:
  - A small network is the default. `hidden=768`, `depth=12`, `heads=12` is the published one.
  - A class has one token for each of its descriptions, of which the first is its global text, too;
    the published code has 35 tokens of a text encoder and its pooled output. Unit rows are scaled
    by `sqrt(d)` to the size of such tokens.
  - Clips are standardised, so that the noise is as strong for every encoder.
  - The epoch is chosen on held-out seen classes, not on unseen test clips.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least, check_choice, check_positive
from dynapurls_jax.zero_shot.base import (
    Candidates,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    score_method,
)
from dynapurls_jax.zero_shot.nn.mlp import dense, init_dense, init_layers, mlp
from dynapurls_jax.zero_shot.nn.pooling import FEATURES, pooled, standardised, statistics

TIMES = 50
KEPT = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, TIMES) ** 2)  # `a_t`
FREQUENCIES = 256  # of the time's sines and cosines
STREAMS = ("clip", "text")
XAVIER, ZEROS = jax.nn.initializers.xavier_uniform(), jax.nn.initializers.zeros
SMALL = jax.nn.initializers.normal(0.02)


@dataclass(frozen=True)
class TdsmSettings:
    """The method's settings; defaults are the published ones but for the network's size.

    Attributes:
      features: "mean" of the tokens, or all "tokens" side by side.
      hidden, depth, heads: width, blocks and attention heads of the transformer.
      margin: of the loss.
      noises, time: the number of fixed noises of a prediction, and their `t`.
      scale: of the logits, which are minus the summed errors.
    """

    features: str = "mean"
    hidden: int = 192
    depth: int = 4
    heads: int = 4
    margin: float = 1.0
    noises: int = 3
    time: int = 25
    scale: float = 1.0

    def __post_init__(self):
        check_choice("features", self.features, FEATURES)
        check_at_least(1, hidden=self.hidden, depth=self.depth, heads=self.heads)
        check_at_least(0, margin=self.margin, time=self.time)
        check_at_least(1, noises=self.noises)
        check_positive(scale=self.scale)
        if self.hidden % self.heads:
            raise ValueError(f"heads: expected a divisor of {self.hidden}, got {self.heads}")
        if self.time >= TIMES:
            raise ValueError(f"time: expected less than {TIMES}, got {self.time}")


@dataclass(frozen=True, eq=False)
class Tdsm:
    """The functions of the method; `make` puts them together."""

    settings: TdsmSettings

    def init(
        self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text: Float[Array, "C G d"]
    ) -> Variables:
        """The network, the fixed noises of predictions, and the statistics of clips' vectors."""
        clips, hidden = pooled(tokens, self.settings.features), self.settings.hidden
        width, (_, rows, d) = clips.shape[-1], text.shape
        keys = jax.random.split(key, 7)
        params = {
            "clip": init_dense(keys[0], width, hidden, XAVIER),
            "text": init_dense(keys[1], d, hidden, XAVIER),
            "position": SMALL(keys[2], (rows, hidden)),
            "time": init_layers(keys[3], FREQUENCIES, hidden, hidden, init=SMALL),
            "global": init_layers(keys[4], d, hidden, hidden, init=XAVIER),
            "blocks": jax.vmap(lambda key: init_block(key, hidden))(
                jax.random.split(keys[5], self.settings.depth)
            ),
            "modulation": init_dense(key, hidden, 2 * hidden, ZEROS),
            "output": init_dense(key, hidden, width, ZEROS),
        }
        noises = jax.random.normal(keys[6], (self.settings.noises, width))
        return {"params": params, "noises": noises, "features": statistics(clips)}

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B D"]:
        """Standardised vectors of the clips."""
        return standardised(variables["features"], pooled(tokens, self.settings.features))

    def bind(self, variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        """The classes' texts."""
        return Candidates(text)

    def _error(self, variables: Variables, noisy, time, noise, text) -> Float[Array, " B"]:
        found = predicted_noise(variables["params"], self.settings.heads, noisy, time, text)
        return jnp.square(found - noise).mean(axis=-1)

    def score(
        self, variables: Variables, features: Float[Array, "B D"], candidates: Candidates
    ) -> Float[Array, "B C"]:
        """Minus the errors, summed over the fixed noises.

        Classes and noises follow each other: memory is that of one pass over `B` clips.
        """
        rows = len(features)
        time = jnp.full(rows, self.settings.time)

        def error(text: Float[Array, "G d"]) -> Float[Array, " B"]:
            text = jnp.broadcast_to(text, (rows, *text.shape))

            def of(noise: Float[Array, " D"]) -> Float[Array, " B"]:
                noisy = with_noise(features, time, noise)
                return self._error(variables, noisy, time, noise, text)

            return jax.lax.map(of, variables["noises"]).sum(axis=0)

        return -self.settings.scale * jax.lax.map(error, candidates.classes).T

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: Float[Array, "C G d"],
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The noise's error and the triplet term of the module's docstring."""
        tokens, labels = batch
        x = self.encode(variables, tokens)
        key_time, key_noise, key_other = jax.random.split(key, 3)
        time = jax.random.randint(key_time, labels.shape, 0, TIMES)
        noise = jax.random.normal(key_noise, x.shape)
        other = jax.random.randint(key_other, labels.shape, 0, len(text))
        twice = lambda array: jnp.concatenate([array, array])  # noqa: E731
        noisy, both = twice(with_noise(x, time, noise)), text[jnp.concatenate([labels, other])]
        errors = self._error(variables, noisy, twice(time), twice(noise), both)
        own, against = jnp.split(errors, 2)
        triplet = jnp.maximum(0, own - against + self.settings.margin)
        return jnp.mean(own + jnp.where(other != labels, triplet, 0))


def with_noise(
    x: Float[Array, "B D"], time: Int[Array, " B"], noise: Float[Array, "*B D"]
) -> Float[Array, "B D"]:
    """The noisy clips `x_t`."""
    kept = jnp.asarray(KEPT, jnp.float32)[time][:, None]
    return jnp.sqrt(kept) * x + jnp.sqrt(1 - kept) * noise


def init_block(key: PRNGKeyArray, hidden: int) -> Variables:
    """The layers of one block for both streams; the modulation starts at zero: the identity."""
    params = {}
    for number, stream in enumerate(STREAMS):
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        params[stream] = {
            "modulation": init_dense(key, hidden, 6 * hidden, ZEROS),
            "attention": init_dense(keys[0], hidden, 3 * hidden, XAVIER),
            "gathered": init_dense(keys[1], hidden, hidden, XAVIER),
            "network": init_layers(keys[2], hidden, 4 * hidden, hidden, init=XAVIER),
        }
    return params


def predicted_noise(
    params: Variables,
    heads: int,
    x: Float[Array, "B D"],
    time: Int[Array, " B"],
    text: Float[Array, "B G d"],
) -> Float[Array, "B D"]:
    """The noise in clips `x`, if the texts describe them."""
    silu, text = jax.nn.silu, text * text.shape[-1] ** 0.5
    condition = mlp(params["time"], frequencies(time), [silu])
    condition = silu(condition + mlp(params["global"], text[:, 0], [silu]))
    clip = dense(params["clip"], x)[:, None]
    described = dense(params["text"], text) + params["position"]

    def layer(streams, block):
        return apply_block(block, heads, streams, condition), None

    (clip, _), _ = jax.lax.scan(layer, (clip, described), params["blocks"])
    shift, scale = jnp.split(dense(params["modulation"], condition), 2, axis=-1)
    return dense(params["output"], modulated(clip[:, 0], shift, scale))


def apply_block(
    block: Variables, heads: int, streams: tuple[Array, Array], condition: Float[Array, "B h"]
) -> tuple[Array, Array]:
    """Joint attention over the tokens of both streams, and a network of its own for each.

    Args:
      streams: `[B, 1, h]` of clips, `[B, G, h]` of texts.
    """
    layers = [block[stream] for stream in STREAMS]
    parts = [jnp.split(dense(each["modulation"], condition)[:, None], 6, -1) for each in layers]
    projected = [
        dense(each["attention"], modulated(x, shift, scale))
        for each, x, (shift, scale, *_) in zip(layers, streams, parts, strict=True)
    ]
    both = jnp.concatenate(projected, axis=1)
    both = both.reshape(*both.shape[:2], 3, heads, -1)
    gathered = jax.nn.dot_product_attention(both[:, :, 0], both[:, :, 1], both[:, :, 2])
    gathered = gathered.reshape(*gathered.shape[:2], -1)
    found = []
    of_streams = gathered[:, :1], gathered[:, 1:]
    for each, x, part, taken in zip(layers, streams, parts, of_streams, strict=True):
        _, _, gate, shift, scale, last_gate = part
        x = x + gate * dense(each["gathered"], taken)
        x = x + last_gate * mlp(each["network"], modulated(x, shift, scale), [jax.nn.gelu])
        found.append(x)
    return found[0], found[1]


def modulated(x: Array, shift: Array, scale: Array) -> Array:
    """Layer normalisation whose shift and scale the condition chooses."""
    return jax.nn.standardize(x, axis=-1, epsilon=1e-6) * (1 + scale) + shift


def frequencies(time: Int[Array, " B"]) -> Float[Array, "B f"]:
    """Cosines and sines of the time."""
    half = FREQUENCIES // 2
    angles = time[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def make(settings: TdsmSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return score_method(Tdsm(settings))


ENTRY = MethodEntry(
    make,
    TdsmSettings,
    description="Diffusion under text: the class with the smallest error of denoising",
    paper=Paper(
        "Do and Kim, ICCV 2025",
        "https://arxiv.org/abs/2411.10745",
    ),
)
