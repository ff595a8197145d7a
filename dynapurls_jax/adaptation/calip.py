"""CALIP: attention between tokens and texts without parameters (Guo et al., AAAI 2023)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.adaptation.similarity import scored_rows, scored_text
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures


@dataclass(frozen=True)
class CalipSettings:
    """Defaults are the paper's for ImageNet (arXiv 2209.14169, section 4).

    Attributes:
      text_weight: beta_2, of the texts that have seen the tokens.
      visual_weight: beta_3, of the tokens that have seen the texts. (beta_1 is 1.)
      sharpness: of both attentions, on cosines, as the published code has it.
    """

    text_weight: Number = 1.12
    visual_weight: Number = 0.02
    sharpness: Number = 2.0


def calip(model: ZeroShotModel, variables: Variables, settings: CalipSettings) -> Method:
    """Each side looks at the other before they are compared; nothing is learned.

    With `F_s` the tokens and `F_t` the texts in one space, `A = F_s F_t'`:

        F_t^a = softmax_over_tokens(2 A') F_s      F_s^a = softmax_over_classes(2 A) F_t
        logits = (F_v F_t' + beta_2 F_v F_t^a' + beta_3 (mean(F_s^a) + max(F_s^a)) F_t') / tau

    with mean and highest value over tokens. `F_v` is what the queries gathered, as in the static
    model. A token comes to the space of texts as a sample with no other token does.
    """

    def tokens_in_text_space(visual: VisualFeatures, text: Text) -> Float[Array, "B S R d"]:
        alone = jax.tree.map(lambda leaf: leaf.reshape(-1, 1, leaf.shape[-1]), visual)
        queries = text.query[None, None, : model.rows]  # one token: who asks makes no difference
        rows = model.project(variables, alone, queries)[:, 0]
        return rows.reshape(*visual.tokens.shape[:2], *rows.shape[1:])

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        rows = scored_rows(model, variables, state.text, visual)
        text = scored_text(model, state.text)
        tokens = tokens_in_text_space(visual, state.text)
        cosines = jnp.einsum("bsrd,crd->bsrc", tokens, text) * settings.sharpness
        seen_text = jnp.einsum("bsrc,bsrd->bcrd", jax.nn.softmax(cosines, axis=1), tokens)
        attention = jax.nn.softmax(jnp.where(state.active, cosines, -jnp.inf), axis=-1)
        seen_tokens = jnp.einsum("bsrc,crd->bsrd", attention, text)
        pooled = seen_tokens.mean(axis=1) + seen_tokens.max(axis=1)
        own_text = jax.vmap(lambda row, text: model.match(variables, row[None], text)[0])
        return (
            model.match(variables, rows, text)
            + settings.text_weight * own_text(rows, seen_text)
            + settings.visual_weight * model.match(variables, pooled[:, None], text)
        )

    def learn(state: State, visual: VisualFeatures, logits, usable):
        return (), UpdateInfo(jnp.zeros_like(usable), jnp.array(False))

    return Method(lambda text, active: (), predict, learn)
