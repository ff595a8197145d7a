"""PURLS (Zhu et al., CVPR 2024) in the form of its published code.

`purls.py` is the model of the DynaPURLS paper. The published code of PURLS differs from it in:
  - Tokens are unit vectors, not standardised ones.
  - Attention has two heads of 150, whose scores are averaged before the softmax.
  - One head projects all granularities together; its outputs end in `tanh` and are not
    normalised: logits are dot products, so this method has no embedding of unit vectors.
  - Each granularity has its own factor `tau_g` of the logits, which starts at `log(1 / 0.07)`.
  - The loss is the sum over granularities `g` of two cross-entropies on the `B x B` logits of a
    batch, `tau_g V_i T_j`, over `j` and over `i`; clips of one class are negatives of each other.
  - A prediction reads the global granularity alone.
Differs from the published code:
  - Queries never come from the true label unless `query="oracle_label"` is set, the published
    protocol, whose results are marked ORACLE.
  - Layer normalisation replaces batch normalisation: a loss here updates no running statistics,
    and a prediction must not depend on the other clips of a batch. The parameters are as many,
    6 533 128.
  - Clips whose tokens are all zero are kept.
"""

import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least, check_choice, check_share
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.zero_shot.base import (
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    cosines,
    unit,
)
from dynapurls_jax.zero_shot.nn.attention import TextAttention
from dynapurls_jax.zero_shot.purls import (
    QUERIES,
    Purls,
    PurlsModule,
    PurlsSettings,
    VisualFeatures,
    mean_text,
    method_of,
)


@dataclass(frozen=True)
class PurlsPublishedSettings:
    """The method's settings; defaults are the published ones but for the queries.

    Attributes:
      query: see `PurlsSettings`; "oracle_label" is the published protocol.
      heads: of the attention.
      attention, hidden: width of one attention head, and of the head's hidden layer.
      dropout: before both layers of the head, while training.
    """

    query: str = "label_free"
    heads: int = 2
    attention: int = 150
    hidden: int = 1024
    dropout: float = 0.5

    def __post_init__(self):
        check_choice("query", self.query, QUERIES)
        check_at_least(1, heads=self.heads, attention=self.attention, hidden=self.hidden)
        check_share(dropout=self.dropout)


class PublishedHead(nn.Module):
    """All granularities together: two layers after normalisation and dropout, and `tanh`."""

    text_width: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, rows: Float[Array, "B Q G n"], train: bool) -> Float[Array, "B Q G d"]:
        """Projects the `G` rows together."""
        b, q, g, n = rows.shape
        drop = nn.Dropout(self.dropout, deterministic=not train)
        hidden = drop(nn.LayerNorm(epsilon=1e-5)(rows.reshape(b, q, g * n)))
        hidden = nn.silu(nn.Dense(self.hidden)(hidden))
        hidden = drop(nn.LayerNorm(epsilon=1e-5)(hidden))
        return jnp.tanh(nn.Dense(g * self.text_width)(hidden)).reshape(b, q, g, self.text_width)


class PublishedModule(PurlsModule):
    """All parameters: the attention, the head and the factors of the logits.

    Attributes:
      heads: of the attention.
    """

    heads: int = 2

    def setup(self):
        settings = self.settings
        # Averaged heads are one head of their joint width, but for a factor of the scores.
        self.partition = TextAttention(self.heads * settings.attention)
        self.project = PublishedHead(self.shapes.text_width, settings.hidden, settings.dropout)
        factor = nn.initializers.constant(-math.log(0.07))
        self.factors = self.param("factors", factor, (len(GRANULARITIES),))

    def attend(self, keys, queries: Float[Array, "#B Q G d"]) -> Float[Array, "B Q G S"]:
        """The softmax of the heads' mean scores."""
        return self.partition.attend(keys, queries * self.heads**-0.5)

    def gather_and_project(self, tokens, attention, train: bool = False) -> Float[Array, "B Q G d"]:
        """The gathered tokens in text space, not normalised."""
        return self.project(jnp.einsum("bqgs,bsn->bqgn", attention, tokens), train)

    def __call__(self, tokens, queries):
        """Touches every parameter; for initialisation."""
        return self.gather_and_project(tokens, self.attend(self.keys(tokens), queries))


@dataclass(frozen=True, eq=False)
class PurlsPublished(Purls):
    """The functions of the method that differ from those of `Purls`."""

    def init(
        self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text: Float[Array, "C G d"]
    ) -> Variables:
        """Parameters and the label-free queries."""
        params = self.module.init(key, tokens[:1], text[None, :1])["params"]
        return {"params": params, "query": mean_text(text)}

    def encode(self, variables: Variables, tokens: Float[Array, "*B S n"]) -> VisualFeatures:
        """Tokens of unit length and their keys."""
        tokens = unit(tokens)
        return VisualFeatures(tokens, self._apply(variables, "keys", tokens))

    def match(self, variables: Variables, embedded, classes) -> Float[Array, "B C"]:
        """Logits of the global granularity."""
        return self._logits(variables, embedded, classes)[..., 0]

    def _logits(self, variables: Variables, embedded, classes) -> Float[Array, "B C G"]:
        """Of all granularities. Outputs are not unit vectors: these are no cosines."""
        return variables["params"]["factors"] * cosines(embedded, classes)

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: Float[Array, "C G d"],
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The sum over granularities of both cross-entropies in the batch."""
        tokens, labels = batch
        features, candidates = self.encode(variables, tokens), self.bind(variables, text)
        oracle = self.settings.query == "oracle_label"
        queries = text[labels][:, None] if oracle else self.queries(candidates)
        rngs = {"dropout": key}
        embedded = self._project(variables, features, queries, train=True, rngs=rngs)
        logits = self._logits(variables, embedded, text)[:, labels]  # [B, B, G]
        own = jnp.arange(len(labels))
        to_text = jax.nn.log_softmax(logits, axis=1)[own, own]
        to_clips = jax.nn.log_softmax(logits, axis=0)[own, own]
        return -(to_text + to_clips).mean(axis=0).sum()


def make(settings: PurlsPublishedSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method for tokens and text of these shapes."""
    chosen = PurlsSettings(
        query=settings.query,
        head="joint",
        attention=settings.attention,
        hidden=settings.hidden,
        dropout=settings.dropout,
    )
    purls = PurlsPublished(chosen, PublishedModule(chosen, shapes, settings.heads))
    return method_of(purls)._replace(embedding=None)  # its outputs are no unit vectors


ENTRY = MethodEntry(
    make,
    PurlsPublishedSettings,
    description="PURLS in the form of its published code",
    paper=Paper(
        "Zhu et al., CVPR 2024",
        "https://arxiv.org/abs/2406.13327",
    ),
)
