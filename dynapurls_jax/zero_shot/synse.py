"""SynSE (Gupta et al., ICIP 2021): a latent space of clips with one half for nouns, one for verbs.

Three variational autoencoders, of clips, nouns and verbs; `z_1`, `z_2` are the halves of a clip's
latent vector:

    L = |x - x'|^2 + |n - n'|^2 + |v - v'|^2 + k1 KL_x + k2 (KL_n + KL_v)
        + k3 (|n - dec_n(z_1)|^2 + |v - dec_v(z_2)|^2 + |x - dec_x([z_n, z_v])|^2)

`k2` is 0 in the first two cycles of annealing (`nn.vae`). The classifier and the differences from
the published code are those of `cada_vae`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import (
    Candidates,
    ClassText,
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

VERB, NOUN = 0, 1  # in `ClassText.words`


@dataclass(frozen=True)
class SynseSettings:
    """The method's settings; defaults are the published ones of NTU-60.

    Attributes:
      features: "mean" of the tokens, or all "tokens" side by side.
      latent: `L`, an even number.
      cycle: steps of a cycle of annealing.
      classifier: "gaussian" or "softmax", see `nn.vae.classes_of`.
    """

    features: str = "mean"
    latent: int = 100
    cycle: int = 1700
    classifier: str = "gaussian"

    def __post_init__(self):
        check_inputs(self.features, "global")
        vae.check_classifier(self.classifier)
        check_at_least(1, cycle=self.cycle)
        if self.latent < 2 or self.latent % 2:
            raise ValueError(f"latent: expected a positive even number, got {self.latent}")


@dataclass(frozen=True, eq=False)
class Synse(PooledInputs):
    """The functions of the method; `make` puts them together."""

    settings: SynseSettings

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text: ClassText) -> Variables:
        """The autoencoders, and the statistics of the clips' vectors."""
        clips, latent = pooled(tokens, self.settings.features), self.settings.latent
        keys, width = jax.random.split(key, 3), text.text.shape[-1]
        params = {
            "clip": vae.init_autoencoder(keys[0], clips.shape[-1], latent),
            "noun": vae.init_autoencoder(keys[1], width, latent // 2),
            "verb": vae.init_autoencoder(keys[2], width, latent // 2),
        }
        return {"params": params, "features": statistics(clips)}

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B L"]:
        """The means of the clips' latent Gaussians."""
        return vae.encoded(variables["params"]["clip"], self._clips(variables, tokens)).mean

    def bind(self, variables: Variables, text: ClassText) -> Candidates:
        """The classifier of the classes, from the Gaussians of noun and verb side by side."""
        params = variables["params"]
        noun = vae.encoded(params["noun"], text.words[:, NOUN])
        verb = vae.encoded(params["verb"], text.words[:, VERB])
        both = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=-1), noun, verb)
        return vae.classes_of(both, self.settings.classifier)

    def score(self, variables: Variables, features: Float[Array, "B L"], candidates: Candidates):
        """Logits `[B, C]`."""
        return vae.class_scores(features, candidates, self.settings.classifier)

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: ClassText,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The sum of the module's docstring, with the weights of a step."""
        (tokens, labels), params = batch, variables["params"]
        weights, draw = vae.weights_at(step, self.settings.cycle), vae.noise_of(key)
        words = text.words[labels]
        x, n, v = self._clips(variables, tokens), words[:, NOUN], words[:, VERB]
        clip, noun, verb = (
            vae.encoded(params[name], given)
            for name, given in (("clip", x), ("noun", n), ("verb", v))
        )
        z, z_noun, z_verb = draw(clip), draw(noun), draw(verb)
        first, second = jnp.split(z, 2, axis=-1)
        both = jnp.concatenate([z_noun, z_verb], axis=-1)

        def error(name: str, latent, target):
            return vae.squared_error(vae.decoded(params[name], latent), target)

        own = error("clip", z, x) + error("noun", z_noun, n) + error("verb", z_verb, v)
        crossed = error("noun", first, n) + error("verb", second, v) + error("clip", both, x)
        late = jnp.where(weights.cycle > 1, weights.late, 0.0)
        prior = weights.first * vae.divergence(clip)
        prior += late * (vae.divergence(noun) + vae.divergence(verb))
        return own + prior + weights.crossed * crossed


def make(settings: SynseSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return score_method(Synse(settings))


ENTRY = MethodEntry(
    make,
    SynseSettings,
    words=True,
    description="Variational autoencoders of clips, verbs and nouns with one latent space",
    paper=Paper("Gupta et al., ICIP 2021", "https://arxiv.org/abs/2101.11530"),
)
