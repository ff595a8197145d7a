"""An approximation of SCoPLe (Zhu et al., CVPR 2025): PURLS with a second, adapted text stream.

There is no public code. SCoPLe tunes prompts through a text encoder, beside the frozen one. Here
texts are vectors, and an adapter takes the place of the prompts:

    t' = t + s * W2 silu(W1 t), normalised, with a learned factor `s` for each dimension

Both streams share the attention and the head of PURLS, and each has its own queries and its own
loss (eq. 10-11); a prediction averages the logits of both. Figures of it are not SCoPLe's.
Differs from the paper:
  - The adapter in place of prompts; no prompts for skeleton features.
  - Everything else is this project's PURLS (`purls.py`) with its settings.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import (
    Candidates,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    cosines,
    unit,
)
from dynapurls_jax.zero_shot.purls import Purls, PurlsModule, PurlsSettings, method_of


@dataclass(frozen=True)
class ScopleSettings(PurlsSettings):
    """Those of PURLS, and the adapter's.

    Attributes:
      adapter: width of its hidden layer.
    """

    adapter: int = 128

    def __post_init__(self):
        super().__post_init__()
        check_at_least(1, adapter=self.adapter)
        if self.query == "oracle_label" or self.partition == "static":
            raise ValueError(
                "method scople: expected query=label_free or per_candidate and "
                f"partition=adaptive, got {self.query} and {self.partition}"
            )


class Adapter(nn.Module):
    """The residual adapter of texts; at the start it changes nothing."""

    hidden: int

    @nn.compact
    def __call__(self, text: Float[Array, "*C G d"]) -> Float[Array, "*C G d"]:
        """The adapted text, unit rows."""
        d = text.shape[-1]
        hidden = nn.silu(nn.Dense(self.hidden)(text))
        moved = nn.Dense(d)(hidden)
        return unit(text + self.param("factor", nn.initializers.zeros, (d,)) * moved)


class ScopleModule(PurlsModule):
    """The parameters of PURLS and the adapter. `R = 2 G` rows: of the text, then the adapted."""

    settings: ScopleSettings

    def setup(self):
        super().setup()
        self.adapter = Adapter(self.settings.adapter)

    def both_streams(self, text: Float[Array, "*C G d"]) -> Float[Array, "*C R d"]:
        """The text and the adapted text."""
        return jnp.concatenate([text, self.adapter(text)], axis=-2)

    def gather_and_project(self, tokens, attention, train: bool = False):
        """Eq. 8-9 of each stream by the same head."""
        b, q, rows, s = attention.shape
        streams = attention.reshape(b, 2 * q, rows // 2, s)
        found = super().gather_and_project(tokens, streams, train)
        return found.reshape(b, q, rows, -1)

    def weights(self) -> Float[Array, " R"]:
        """Alpha of each stream; the sum over both is 1."""
        return jnp.tile(super().weights() / 2, 2)

    def __call__(self, tokens, queries):
        """Touches every parameter; for initialisation."""
        return super().__call__(tokens, self.both_streams(queries))


@dataclass(frozen=True, eq=False)
class Scople(Purls):
    """The functions of the method that differ from those of `Purls`."""

    def bind(self, variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        """Text and queries of both streams."""
        return jax.tree.map(
            lambda text: self._apply(variables, "both_streams", text),
            super().bind(variables, text),
        )

    def scored(self, candidates: Candidates) -> Candidates:
        """The granularities that `match` reads: the first of each stream, or all."""
        if self.settings.score == "weighted" or self.settings.head == "joint":
            return candidates
        half = candidates.classes.shape[-2] // 2
        return jax.tree.map(lambda vectors: vectors[..., ::half, :], candidates)

    def attend(self, variables: Variables, features, candidates: Candidates):
        """Where each original description looks, `[B, Q, G, S]`."""
        half = candidates.classes.shape[1] // 2
        return super().attend(variables, features, candidates)[:, :, :half]

    def match(self, variables: Variables, embedded, classes) -> Float[Array, "B C"]:
        """The mean of both streams' logits."""
        if self.settings.score == "weighted":
            return self.match_all(variables, embedded, classes)
        half = classes.shape[1] // 2
        similarity = cosines(embedded[..., ::half, :], classes[:, ::half])
        return self.scale(variables) * similarity.mean(axis=-1)


def make(settings: ScopleSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method for tokens and text of these shapes."""
    return method_of(Scople(settings, ScopleModule(settings, shapes)))


ENTRY = MethodEntry(
    make,
    ScopleSettings,
    description="APPROXIMATION: PURLS with a second, adapted text stream",
    paper=Paper(
        "Zhu et al., CVPR 2025",
        "https://openaccess.thecvf.com/content/CVPR2025/html/Zhu_Semantic-guided_Cross-Modal_Prompt_Learning_for_Skeleton-based_Zero-shot_Action_Recognition_CVPR_2025_paper.html",
    ),
)
