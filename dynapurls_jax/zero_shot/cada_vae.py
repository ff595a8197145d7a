"""CADA-VAE (Schonfeld et al., CVPR 2019) in the form of its skeleton port (Gupta et al., 2021).

Two variational autoencoders, of clips and of text, share a latent space by crossed reconstruction:

    L = |x - x'|^2 + |t - t'|^2 + k1 KL_x + k2 KL_t + k3 (|x - dec_x(z_t)|^2 + |t - dec_t(z_x)|^2)

A classifier of any classes is fitted to the latent Gaussians of their text (`nn.vae.classes_of`).
Differs from the published code:
  - Clips are standardised and decoders are linear, without ReLU: text vectors, and the features of
    most encoders here, have both signs.
  - Each dimension has noise of its own, as in the paper; the published code has one number a clip.
  - The default classifier is Bayes' rule for the Gaussians, in closed form; "softmax" is the
    published one, fitted to draws.
  - The epoch is chosen on held-out seen classes; the published code chooses the cycle on unseen
    test clips.
The term of distribution alignment has weight 0 in the published code and is left out.
"""

from dataclasses import dataclass

import jax
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
from dynapurls_jax.zero_shot.nn.pooling import (
    PooledInputs,
    check_inputs,
    pooled,
    statistics,
)


@dataclass(frozen=True)
class CadaVaeSettings:
    """The method's settings; defaults are the published ones of NTU-60.

    Attributes:
      features: "mean" of the tokens, or all "tokens" side by side.
      granularities: texts that are concatenated, a name of `GRANULARITY_SETS`.
      latent: `L`.
      cycle: steps of a cycle of annealing.
      classifier: "gaussian" or "softmax", see `nn.vae.classes_of`.
    """

    features: str = "mean"
    granularities: str = "global"
    latent: int = 100
    cycle: int = 1700
    classifier: str = "gaussian"

    def __post_init__(self):
        check_inputs(self.features, self.granularities)
        vae.check_classifier(self.classifier)
        check_at_least(1, latent=self.latent, cycle=self.cycle)


@dataclass(frozen=True, eq=False)
class CadaVae(PooledInputs):
    """The functions of the method; `make` puts them together."""

    settings: CadaVaeSettings

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text) -> Variables:
        """Both autoencoders, and the statistics of the clips' vectors."""
        clips, key_of_text = pooled(tokens, self.settings.features), jax.random.fold_in(key, 1)
        latent, width = self.settings.latent, self._text(text).shape[-1]
        params = {
            "clip": vae.init_autoencoder(key, clips.shape[-1], latent),
            "text": vae.init_autoencoder(key_of_text, width, latent),
        }
        return {"params": params, "features": statistics(clips)}

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B L"]:
        """The means of the clips' latent Gaussians."""
        return vae.encoded(variables["params"]["clip"], self._clips(variables, tokens)).mean

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
        """The sum of the module's docstring, with the weights of a step."""
        (tokens, labels), params = batch, variables["params"]
        weights, draw = vae.weights_at(step, self.settings.cycle), vae.noise_of(key)
        x, t = self._clips(variables, tokens), self._text(text)[labels]
        clip, described = vae.encoded(params["clip"], x), vae.encoded(params["text"], t)
        z, z_text = draw(clip), draw(described)
        own = vae.squared_error(vae.decoded(params["clip"], z), x)
        own += vae.squared_error(vae.decoded(params["text"], z_text), t)
        crossed = vae.squared_error(vae.decoded(params["clip"], z_text), x)
        crossed += vae.squared_error(vae.decoded(params["text"], z), t)
        prior = weights.first * vae.divergence(clip)
        prior += weights.first * weights.crossed * vae.divergence(described)
        return own + prior + weights.crossed * crossed


def make(settings: CadaVaeSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return score_method(CadaVae(settings))


ENTRY = MethodEntry(
    make,
    CadaVaeSettings,
    description="Two variational autoencoders with one latent space",
    paper=Paper("Schonfeld et al., CVPR 2019", "https://arxiv.org/abs/1812.01784"),
)
