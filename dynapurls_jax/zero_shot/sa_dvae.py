"""SA-DVAE (Li et al., ECCV 2024): a latent space of clips with a semantic part and a style part.

The semantic part `z` is shared with text, the style part `y` serves the reconstruction alone, and a
discriminator `D` keeps them independent (total correlation):

    L = |x - dec_x[z, y]|^2 + |t - dec_t z_t|^2 + k1 (KL_z + KL_y) + k2 KL_t
        + k3 (|x - dec_x[z_t, y]|^2 + |t - dec_t z|^2) + k2 mean D[z, y]

`D` is trained to tell `[z, y]` from pairs whose parts are of different clips, with text's `z_t` in
place of `z`, too. `k2` is 0 in the first two cycles of annealing (`nn.vae`).
Differs from the published code:
  - `D` is trained in every step, by the same optimizer; the published code has one of its own,
    every fifth step. In both, the loss of `D` does not change the encoders, nor theirs `D`.
  - A cycle has a fixed number of steps, not the length of the data.
The classifier and the other differences are those of `cada_vae`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
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
from dynapurls_jax.zero_shot.nn import vae
from dynapurls_jax.zero_shot.nn.mlp import init_layers, mlp
from dynapurls_jax.zero_shot.nn.pooling import (
    PooledInputs,
    check_inputs,
    pooled,
    statistics,
)


@dataclass(frozen=True)
class SaDvaeSettings:
    """The method's settings; defaults are the published ones of NTU-60.

    Attributes:
      features: "mean" of the tokens, or all "tokens" side by side.
      granularities: texts that are concatenated, a name of `GRANULARITY_SETS`.
      semantic, style: widths of the two parts.
      cycle: steps of a cycle of annealing.
      classifier: "gaussian" or "softmax", see `nn.vae.classes_of`.
    """

    features: str = "mean"
    granularities: str = "global"
    semantic: int = 160
    style: int = 8
    cycle: int = 1700
    classifier: str = "gaussian"

    def __post_init__(self):
        check_inputs(self.features, self.granularities)
        vae.check_classifier(self.classifier)
        check_at_least(1, semantic=self.semantic, style=self.style, cycle=self.cycle)


@dataclass(frozen=True, eq=False)
class SaDvae(PooledInputs):
    """The functions of the method; `make` puts them together."""

    settings: SaDvaeSettings

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text) -> Variables:
        """The autoencoders, the discriminator, and the statistics of the clips' vectors."""
        settings, clips = self.settings, pooled(tokens, self.settings.features)
        width, keys = settings.semantic + settings.style, jax.random.split(key, 3)
        hidden, text_width = max(1, width // 4), self._text(text).shape[-1]
        params = {
            "clip": vae.init_autoencoder(keys[0], clips.shape[-1], width),
            "text": vae.init_autoencoder(keys[1], text_width, settings.semantic),
            "discriminator": init_layers(keys[2], width, hidden, 1, init=vae.XAVIER),
        }
        return {"params": params, "features": statistics(clips)}

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B L"]:
        """The means of the clips' latent Gaussians, their semantic part."""
        latent = vae.encoded(variables["params"]["clip"], self._clips(variables, tokens))
        return latent.mean[:, : self.settings.semantic]

    def bind(self, variables: Variables, text) -> Candidates:
        """The classifier of the classes."""
        latent = vae.encoded(variables["params"]["text"], self._text(text))
        return vae.classes_of(latent, self.settings.classifier)

    def score(self, variables: Variables, features: Float[Array, "B L"], candidates: Candidates):
        """Logits `[B, C]`."""
        return vae.class_scores(features, candidates, self.settings.classifier)

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The sum of the module's docstring, with the weights of a step, and that of `D`."""
        (tokens, labels), params = batch, variables["params"]
        weights, semantic = vae.weights_at(step, self.settings.cycle), self.settings.semantic
        x, t = self._clips(variables, tokens), self._text(text)[labels]
        clip, described = vae.encoded(params["clip"], x), vae.encoded(params["text"], t)
        key_draw, key_pairs = jax.random.split(key)
        draw = vae.noise_of(key_draw)
        both, z_text = draw(clip), draw(described)
        z, y = both[:, :semantic], both[:, semantic:]

        def error(name: str, latent, target):
            return vae.squared_error(vae.decoded(params[name], latent), target)

        own = error("clip", both, x) + error("text", z_text, t)
        crossed = error("clip", jnp.concatenate([z_text, y], axis=-1), x) + error("text", z, t)
        late = jnp.where(weights.cycle > 1, weights.late, 0.0)
        prior = weights.first * vae.divergence(clip) + late * vae.divergence(described)
        fixed = jax.lax.stop_gradient(params["discriminator"])
        independent = jax.nn.sigmoid(dependence(fixed, z, y)).mean()
        parts = jax.lax.stop_gradient((z, z_text, y))
        return (
            own
            + prior
            + weights.crossed * crossed
            + late * (independent + discrimination(params["discriminator"], key_pairs, *parts))
        )


def dependence(
    discriminator: Variables, z: Float[Array, "B L"], y: Float[Array, "B l"]
) -> Float[Array, " B"]:
    """Logits of `D`: positive where both parts are of the same clip."""
    return mlp(discriminator, jnp.concatenate([z, y], axis=-1), [jax.nn.relu])[:, 0]


def discrimination(
    discriminator: Variables,
    key: PRNGKeyArray,
    z: Float[Array, "B L"],
    z_text: Float[Array, "B L"],
    y: Float[Array, "B l"],
) -> Float[Array, ""]:
    """The loss of `D`: pairs of one clip against pairs with parts of random clips."""
    keys = jax.random.split(key)
    rows = [jax.random.permutation(each, len(y)) for each in keys]

    def one(z):
        together = dependence(discriminator, z, y)
        apart = dependence(discriminator, z[rows[0]], y[rows[1]])
        return optax.sigmoid_binary_cross_entropy(
            jnp.stack([together, apart]), jnp.array([[1.0], [0.0]])
        ).mean()

    return (one(z) + one(z_text)) / 2


def make(settings: SaDvaeSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return score_method(SaDvae(settings))


ENTRY = MethodEntry(
    make,
    SaDvaeSettings,
    description="Variational autoencoders with a semantic and a style part",
    paper=Paper("Li et al., ECCV 2024", "https://arxiv.org/abs/2407.13460"),
)
