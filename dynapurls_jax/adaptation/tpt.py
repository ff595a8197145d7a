"""TPT: a prompt tuned anew for each sample (Shu et al., NeurIPS 2022, arXiv 2209.07511)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures, unit


class Prompt(NamedTuple):
    """What is tuned.

    Attributes:
      start: `text -> prompt`, the one that changes nothing.
      text: `(prompt, text) -> text`, as the prompt makes it.
    """

    start: Callable[[Text], Any]
    text: Callable[[Any, Text], Text]


def residual_prompt(model: ZeroShotModel) -> Prompt:
    """A vector added to each class's text, where no text tower is at hand (as TaskRes learns)."""

    def text(residual: Float[Array, "C R d"], static: Text) -> Text:
        return static._replace(classes=unit(static.classes[:, : model.rows] + residual))

    return Prompt(lambda static: jnp.zeros_like(static.classes[:, : model.rows]), text)


@dataclass(frozen=True)
class TptSettings:
    """Defaults are the paper's (section 4).

    Attributes:
      views: of each sample.
      share: of them, those of the lowest entropy, that the prompt is tuned on.
      kept: share of the tokens that a view has. The paper crops images.
      learning_rate: of AdamW.
      steps: updates for each sample.
    """

    views: int = 64
    share: float = 0.1
    kept: float = 0.5
    learning_rate: Number = 0.005
    steps: int = 1


def tpt(
    model: ZeroShotModel, variables: Variables, settings: TptSettings, prompt: Prompt
) -> Method:
    """Lowers the entropy of the mean answer over the surest views of a sample, then answers.

    The views are random halves of the sample's tokens; the paper has the whole image among them.
    The next sample starts from the same prompt again: nothing is remembered.
    """
    optimizer = optax.adamw(settings.learning_rate, weight_decay=0.01)

    def score(tuned, state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        logits = model.score(variables, visual, prompt.text(tuned, state.text))
        return jnp.where(state.active, logits, -1e9)  # finite: for the gradient

    def views_of(key: PRNGKeyArray, visual: VisualFeatures) -> VisualFeatures:
        """`[V, kept * S, ...]` of one sample `[S, ...]`."""
        count = len(visual.tokens)
        noise = jax.random.uniform(key, (settings.views, count))
        chosen = jnp.argsort(noise, axis=1)[:, : max(1, round(settings.kept * count))]
        return jax.tree.map(lambda leaf: leaf[chosen], visual)

    def tune(key: PRNGKeyArray, state: State, visual: VisualFeatures):
        """The prompt after all steps, of one sample."""
        views, tuned = views_of(key, visual), prompt.start(state.text)
        logits = score(tuned, state, views)
        entropies = optax.softmax_cross_entropy(logits, jax.nn.softmax(logits))
        surest = jnp.argsort(entropies)[: max(1, round(settings.share * settings.views))]
        views = jax.tree.map(lambda leaf: leaf[surest], views)

        def loss(tuned) -> Float[Array, ""]:
            log_p = jax.nn.log_softmax(score(tuned, state, views))
            mean = jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(surest))
            return -jnp.sum(jnp.exp(mean) * mean)

        opt_state = optimizer.init(tuned)
        for _ in range(settings.steps):
            updates, opt_state = optimizer.update(jax.grad(loss)(tuned), opt_state, tuned)
            tuned = optax.apply_updates(tuned, updates)
        return tuned

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        used = state.samples - state.skipped  # a skipped sample must not change the draws
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), used)

        def answer(number, one: VisualFeatures) -> Float[Array, " C"]:
            tuned = tune(jax.random.fold_in(key, number), state, one)
            return score(tuned, state, jax.tree.map(lambda leaf: leaf[None], one))[0]

        return jax.vmap(answer)(jnp.arange(len(visual.tokens)), visual)

    def learn(state: State, visual: VisualFeatures, logits, usable):
        return (), UpdateInfo(jnp.zeros_like(usable), jnp.array(False))

    return Method(lambda text, active: (), predict, learn)
