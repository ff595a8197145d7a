"""CALIP: attention between tokens and texts without parameters (Guo et al., AAAI 2023)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from dynapurls_jax.adaptation.api import (
    Method,
    Number,
    State,
    StreamInfo,
    TestTimeEntry,
    learns_nothing,
)
from dynapurls_jax.adaptation.similarity import check_tokens, embedding_of, scored_vectors
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod


@dataclass(frozen=True)
class CalipSettings:
    """Defaults are the paper's for ImageNet (arXiv 2209.14169, section 4).

    Attributes:
      text_weight: beta_2, weight of the texts after attention to the tokens.
      visual_weight: beta_3, weight of the tokens after attention to the texts. (beta_1 is 1.)
      sharpness: of both attentions, on cosines, as in the published code.
    """

    text_weight: Number = 1.12
    visual_weight: Number = 0.02
    sharpness: Number = 2.0


def calip(
    model: ZeroShotMethod,
    variables: Variables,
    settings: CalipSettings,
    info: StreamInfo | None = None,
) -> Method:
    """Tokens and texts attend to each other before they are compared; nothing is learned.

    With `F_s` the tokens and `F_t` the texts in one space, `A = F_s F_t'`:

        F_t^a = softmax_over_tokens(2 A') F_s      F_s^a = softmax_over_classes(2 A) F_t
        logits = (F_v F_t' + beta_2 F_v F_t^a' + beta_3 (mean(F_s^a) + max(F_s^a)) F_t') / tau

    with mean and maximum over tokens. `F_v` are the sample's vectors, as in the static method. Each
    token is embedded as a sample with a single token.

    Raises:
      ValueError: the zero-shot method has no token features.
    """
    check_tokens(model, "calip")
    e = embedding_of(model)

    def token_vectors(features: Any, candidates: Candidates) -> Float[Array, "B S R e"]:
        shape = jax.tree.leaves(features)[0].shape[:2]
        alone = jax.tree.map(lambda leaf: leaf.reshape(-1, 1, *leaf.shape[2:]), features)
        # All attention is on the only token, for any query: one class is enough.
        one = candidates._replace(classes=candidates.classes[:1])
        vectors = scored_vectors(e, variables, alone, one)[:, 0]
        return vectors.reshape(*shape, *vectors.shape[1:])

    def predict(state: State, features: Any) -> Float[Array, "B C"]:
        vectors = scored_vectors(e, variables, features, state.candidates)
        text = e.scored(state.candidates).classes
        tokens = token_vectors(features, state.candidates)
        cosines = jnp.einsum("bsrd,crd->bsrc", tokens, text) * settings.sharpness
        attended_text = jnp.einsum("bsrc,bsrd->bcrd", jax.nn.softmax(cosines, axis=1), tokens)
        attention = jax.nn.softmax(jnp.where(state.active, cosines, -jnp.inf), axis=-1)
        attended_tokens = jnp.einsum("bsrc,crd->bsrd", attention, text)
        pooled = attended_tokens.mean(axis=1) + attended_tokens.max(axis=1)
        match_own = jax.vmap(lambda vectors, text: e.match(variables, vectors[None], text)[0])
        return (
            e.match(variables, vectors, text)
            + settings.text_weight * match_own(vectors, attended_text)
            + settings.visual_weight * e.match(variables, pooled[:, None], text)
        )

    return Method(lambda candidates, active: (), predict, learns_nothing)


ENTRY = TestTimeEntry(
    calip,
    CalipSettings,
    "tokens",
    description="Attention between tokens and texts without parameters",
    paper=Paper("Guo et al., AAAI 2023", "https://arxiv.org/abs/2209.14169"),
)
