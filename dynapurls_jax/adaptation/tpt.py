"""TPT: test-time prompt tuning for each sample (Shu et al., NeurIPS 2022, arXiv 2209.07511)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.adaptation.api import (
    Method,
    Number,
    Prompt,
    State,
    StreamInfo,
    TestTimeEntry,
    key_of_chunk,
    learns_nothing,
)
from dynapurls_jax.adaptation.similarity import check_tokens, embedding_of
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod, unit


@dataclass(frozen=True)
class TptSettings:
    """Defaults are the paper's (section 4).

    Attributes:
      views: of each sample.
      confident_share: fraction of the views, those of the lowest entropy, for tuning.
      token_share: fraction of the tokens in a view. The paper crops images.
      learning_rate: of AdamW.
      steps: updates for each sample.

    Raises:
      ValueError: a setting is out of range.
    """

    views: int = 64
    confident_share: float = 0.1
    token_share: float = 0.5
    learning_rate: Number = 0.005
    steps: int = 1

    def __post_init__(self):
        check_at_least(1, views=self.views, steps=self.steps)
        for key in ("confident_share", "token_share"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(
                    f"{key}: expected a share above 0, at most 1, got {getattr(self, key)}"
                )


def residual_prompt(model: ZeroShotMethod) -> Prompt:
    """A vector that is added to each class vector, as in TaskRes; it needs no text tower."""
    scored = embedding_of(model).scored

    def start(candidates: Candidates) -> Float[Array, "C R e"]:
        return jnp.zeros_like(scored(candidates).classes)

    def apply(residual: Float[Array, "C R e"], candidates: Candidates) -> Candidates:
        static = scored(candidates)
        return static._replace(classes=unit(static.classes + residual))

    return Prompt(start, apply)


def tpt_residual(
    model: ZeroShotMethod,
    variables: Variables,
    settings: TptSettings,
    info: StreamInfo | None = None,
) -> Method:
    """TPT with `residual_prompt`."""
    return prompt_tuning(model, variables, settings, residual_prompt(model))


def tpt(
    model: ZeroShotMethod, variables: Variables, settings: TptSettings, info: StreamInfo
) -> Method:
    """TPT with the prompt of the stream.

    Raises:
      ValueError: the stream has no prompt.
    """
    if info.prompt is None:
        raise ValueError(
            "adapter tpt needs a fixed set of classes, but in this stream classes are added and "
            "retired: expected adapter tpt_residual"
        )
    return prompt_tuning(model, variables, settings, info.prompt)


def prompt_tuning(
    model: ZeroShotMethod, variables: Variables, settings: TptSettings, prompt: Prompt
) -> Method:
    """Minimises the entropy of the mean prediction over the most confident views of a sample.

    The views are random subsets of the sample's tokens; in the paper, one of them is the whole
    image. Each sample starts from the same prompt: the method has no state.

    Raises:
      ValueError: the zero-shot method has no token features.
    """
    check_tokens(model, "tpt")
    optimizer = optax.adamw(settings.learning_rate, weight_decay=0.01)

    def score(tuned: Any, state: State, features: Any) -> Float[Array, "B C"]:
        logits = model.score(variables, features, prompt.apply(tuned, state.candidates))
        return jnp.where(state.active, logits, -1e9)  # finite: for the gradient

    def views_of(key: PRNGKeyArray, sample: Any) -> Any:
        """Views `[V, token_share * S, ...]` of one sample `[S, ...]`."""
        count = len(jax.tree.leaves(sample)[0])
        noise = jax.random.uniform(key, (settings.views, count))
        chosen = jnp.argsort(noise, axis=1)[:, : max(1, round(settings.token_share * count))]
        return jax.tree.map(lambda leaf: leaf[chosen], sample)

    def tune(key: PRNGKeyArray, state: State, sample: Any) -> Any:
        """The prompt after all steps."""
        views, tuned = views_of(key, sample), prompt.start(state.candidates)
        logits = score(tuned, state, views)
        entropies = optax.softmax_cross_entropy(logits, jax.nn.softmax(logits))
        count = max(1, round(settings.confident_share * settings.views))
        confident = jnp.argsort(entropies)[:count]
        views = jax.tree.map(lambda leaf: leaf[confident], views)

        def loss(tuned: Any) -> Float[Array, ""]:
            log_p = jax.nn.log_softmax(score(tuned, state, views))
            mean = jax.nn.logsumexp(log_p, axis=0) - jnp.log(count)
            return -jnp.sum(jnp.exp(mean) * mean)

        opt_state = optimizer.init(tuned)
        for _ in range(settings.steps):
            updates, opt_state = optimizer.update(jax.grad(loss)(tuned), opt_state, tuned)
            tuned = optax.apply_updates(tuned, updates)
        return tuned

    def predict(state: State, features: Any) -> Float[Array, "B C"]:
        key = key_of_chunk(state)

        def predict_one(number, sample: Any) -> Float[Array, " C"]:
            tuned = tune(jax.random.fold_in(key, number), state, sample)
            return score(tuned, state, jax.tree.map(lambda leaf: leaf[None], sample))[0]

        count = len(jax.tree.leaves(features)[0])
        return jax.vmap(predict_one)(jnp.arange(count), features)

    return Method(lambda candidates, active: (), predict, learns_nothing)


ENTRY = TestTimeEntry(
    tpt,
    TptSettings,
    "tokens",
    description="Tunes a prompt for each sample, through the text tower",
    paper=Paper("Shu et al., NeurIPS 2022", "https://arxiv.org/abs/2209.07511"),
)
RESIDUAL_ENTRY = TestTimeEntry(
    tpt_residual,
    TptSettings,
    "tokens",
    description="TPT with vectors added to the text; needs no text tower",
    paper=Paper("Shu et al., NeurIPS 2022", "https://arxiv.org/abs/2209.07511"),
)
