"""JPoSE (Wray et al., ICCV 2019) in the form of its skeleton port (Gupta et al., ICIP 2021).

A clip and a class meet in three spaces of unit vectors: one of verbs, one of nouns, and one that
joins both:

    L = H_verb + H_noun + H_joint + 0.01 (T_verb + T_noun)

`H` is the hinge of ReViSE over the seen classes, `T` a triplet loss between clips of equal and of
different verbs (nouns) in a batch, with the hardest of each.
Differs from the published code:
  - One optimizer with one weight decay in place of three.
  - The epoch is chosen on held-out seen classes; the published code chooses it, the rate and the
    end of training on unseen test clips.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least, check_positive
from dynapurls_jax.zero_shot.base import (
    Candidates,
    ClassText,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    unit,
    vector_method,
)
from dynapurls_jax.zero_shot.nn.losses import class_hinge
from dynapurls_jax.zero_shot.nn.mlp import dense, init_dense, init_layers, mlp
from dynapurls_jax.zero_shot.nn.pooling import check_inputs, pooled, standardised, statistics

WORDS = ("verb", "noun")  # in the order of `ClassText.words`


@dataclass(frozen=True)
class JposeSettings:
    """The method's settings; defaults are the published ones.

    Attributes:
      features: "mean" of the tokens, or all "tokens" side by side.
      text_hidden: width of the text networks' hidden layer.
      common: width of each of the three spaces.
      margin: of both losses.
      triplets: weight of the triplet losses.
      scale: `1 / tau` of the logits on cosines; the loss has none.
    """

    features: str = "mean"
    text_hidden: int = 512
    common: int = 50
    margin: float = 0.3
    triplets: float = 0.01
    scale: float = 1 / 0.07

    def __post_init__(self):
        check_inputs(self.features, "global")
        check_at_least(1, text_hidden=self.text_hidden, common=self.common)
        check_at_least(0, triplets=self.triplets)
        check_positive(margin=self.margin, scale=self.scale)


@dataclass(frozen=True, eq=False)
class Jpose:
    """The functions of the method; `make` puts them together."""

    settings: JposeSettings

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text: ClassText) -> Variables:
        """The networks of verb, noun and both, and the statistics of the clips' vectors."""
        settings, clips = self.settings, pooled(tokens, self.settings.features)
        common, text_width = settings.common, text.text.shape[-1]
        params = {}
        for number, word in enumerate(WORDS):
            key_clip, key_text = jax.random.split(jax.random.fold_in(key, number))
            widths = (text_width, settings.text_hidden, common)
            params[f"clip_{word}"] = init_dense(key_clip, clips.shape[-1], common)
            params[f"text_{word}"] = init_layers(key_text, *widths)
        key_clip, key_text = jax.random.split(jax.random.fold_in(key, len(WORDS)))
        params["clip_joint"] = init_dense(key_clip, 2 * common, common)
        params["text_joint"] = init_dense(key_text, 2 * common, common)
        return {"params": params, "features": statistics(clips)}

    def _clips(self, variables: Variables, tokens) -> Float[Array, "3 B c"]:
        """Unit vectors of clips in the spaces of verb, noun and both."""
        params = variables["params"]
        x = unit(standardised(variables["features"], pooled(tokens, self.settings.features)))
        words = [unit(jnp.tanh(dense(params[f"clip_{word}"], x))) for word in WORDS]
        return jnp.stack([*words, _joint(params["clip_joint"], words)])

    def _classes(self, variables: Variables, text: ClassText) -> Float[Array, "3 C c"]:
        """Unit vectors of classes in the same spaces."""
        params, words = variables["params"], []
        for number, word in enumerate(WORDS):
            activations = [jnp.tanh, jax.nn.relu]
            words.append(unit(mlp(params[f"text_{word}"], text.words[:, number], activations)))
        return jnp.stack([*words, _joint(params["text_joint"], words)])

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B c"]:
        """Unit vectors of the clips in the joint space."""
        return self._clips(variables, tokens)[-1]

    def bind(self, variables: Variables, text: ClassText) -> Candidates:
        """Unit vectors of the classes in the joint space, one granularity."""
        return Candidates(self._classes(variables, text)[-1][:, None])

    def embed(self, variables: Variables, features: Float[Array, "B c"], candidates: Candidates):
        """The clips `[B, 1, 1, c]`."""
        return features[:, None, None]

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: ClassText,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The sum of the module's docstring."""
        (tokens, labels), settings = batch, self.settings
        clips, classes = self._clips(variables, tokens), self._classes(variables, text)
        loss = jnp.float32(0)
        for x, t in zip(clips, classes, strict=True):
            loss += class_hinge(x, t, labels, settings.margin)
        for number in range(len(WORDS)):
            same = same_word(text.words[:, number])[labels][:, labels]
            loss += settings.triplets * hardest_triplets(clips[number], same, settings.margin)
        return loss


def _joint(layer: dict, words: list[Float[Array, "B c"]]) -> Float[Array, "B c"]:
    return unit(jnp.tanh(dense(layer, jnp.concatenate(words, axis=-1))))


def same_word(vectors: Float[Array, "C d"]) -> Bool[Array, "C C"]:
    """Pairs of classes with the same word: their vectors are equal; 0 of an unknown word, too."""
    gram = jnp.matmul(vectors, vectors.T, precision="highest")
    squares = jnp.diagonal(gram)
    return squares[:, None] + squares - 2 * gram < 1e-4


def hardest_triplets(
    clips: Float[Array, "B c"], same: Bool[Array, "B B"], margin: float
) -> Float[Array, ""]:
    """Triplet loss in which each clip is compared with the hardest pair of every clip.

    Clip `j` has the least similar positive `p_j` and the most similar negative `n_j`; the loss is
    `sum over i, j of max(0, x_i n_j - x_i p_j + m) / B`, as in the published code. Positives and
    negatives have no gradient; clips without a negative are left out.

    Args:
      same: pairs of clips with the same word.
    """
    fixed = jax.lax.stop_gradient(clips)
    dots = fixed @ fixed.T
    positive = jnp.where(same, dots, jnp.inf).argmin(axis=1)
    negative = jnp.where(same, -jnp.inf, dots).argmax(axis=1)
    hinge = jnp.maximum(0, clips @ (fixed[negative] - fixed[positive]).T + margin)
    return jnp.where((~same).any(axis=1), hinge, 0).sum() / len(clips)


def make(settings: JposeSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method; it works for tokens and text of any shape."""
    return vector_method(Jpose(settings), settings.scale)


ENTRY = MethodEntry(
    make,
    JposeSettings,
    words=True,
    description="Spaces of verbs, of nouns and of both, hinge and triplet losses",
    paper=Paper("Wray et al., ICCV 2019", "https://arxiv.org/abs/1908.03477"),
)
