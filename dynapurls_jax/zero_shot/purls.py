"""PURLS and DynaPURLS' static model (section 3.2-3.3): text attends to tokens, a head projects.

Difference from the published code: queries come from the true label only with
`query="oracle_label"`, the published protocol, whose results are marked ORACLE.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least, check_choice
from dynapurls_jax.text.granularities import GRANULARITIES, GRANULARITY_SETS
from dynapurls_jax.zero_shot.base import (
    Candidates,
    Embedding,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    cosines,
    unit,
)
from dynapurls_jax.zero_shot.nn.attention import TextAttention
from dynapurls_jax.zero_shot.nn.heads import HEADS
from dynapurls_jax.zero_shot.nn.losses import symmetric_info_nce
from dynapurls_jax.zero_shot.nn.static_partition import StaticPartition

# Settings with which granularities differ and attention is selective (docs/studies/method.md); the
# defaults of `PurlsSettings` are those of the paper.
REPAIRED = {
    "unit_logits": True,
    "head": "separate",
    "centred": True,
    "score": "weighted",
    "weights": "average",
}
QUERIES = ("label_free", "per_candidate", "oracle_label")
SCORES = ("global", "weighted")
PARTITIONS = ("adaptive", "static")
WEIGHTS = ("learned", "average")


@dataclass(frozen=True)
class PurlsSettings:
    """The method's settings.

    Attributes:
      query: source of the queries. "per_candidate": the text of each class. "label_free": the mean
        text of the seen classes, for all classes. "oracle_label": the text of the true label, the
        published protocol; such a model has no `score`.
      head: "row" (eq. 9), "joint" or "separate", see `nn.heads`.
      centred: subtract the mean text of the seen classes, the common part of all texts.
      unit_logits: see `nn.attention.TextAttention`.
      score: "global" uses the global granularity only (eq. 14), "weighted" all with weights alpha.
      partition: "adaptive" (attention) or "static" (body parts and thirds of the time, Fig. 4).
      granularities: those in loss and score: "all", "global", or global and "parts" or "phases"
        (Table 7).
      weights: of the granularities (eq. 11): "learned", or "average" for equal ones.
      attention, hidden: `h` and the width of the head's hidden layer.
      dropout: in the head, in training.

    Raises:
      ValueError: a setting is out of range, or a combination is not possible.
    """

    query: str = "label_free"
    head: str = "row"
    centred: bool = False
    unit_logits: bool = False
    score: str = "global"
    partition: str = "adaptive"
    granularities: str = "all"
    weights: str = "learned"
    attention: int = 150
    hidden: int = 512
    dropout: float = 0.0

    def __post_init__(self):
        """Checks values and combinations."""
        check_choice("query", self.query, QUERIES)
        check_choice("head", self.head, HEADS)
        check_choice("score", self.score, SCORES)
        check_choice("partition", self.partition, PARTITIONS)
        check_choice("granularities", self.granularities, GRANULARITY_SETS)
        check_choice("weights", self.weights, WEIGHTS)
        check_at_least(1, attention=self.attention, hidden=self.hidden)
        if self.head == "joint" and self.granularities != "all":
            raise ValueError(
                "head=joint projects all granularities together: expected granularities=all with "
                f"it, got {self.granularities}"
            )
        if self.partition == "static" and self.query != "label_free":
            raise ValueError(
                "partition=static has no queries: expected query=label_free with it, got "
                f"{self.query}"
            )


class VisualFeatures(NamedTuple):
    """Standardised tokens, and their keys (eq. 6), or their weights in a static partition."""

    tokens: Float[Array, "*B S n"]
    keys: Float[Array, "*B S h"]


class PurlsModule(nn.Module):
    """All parameters: the partition, the head, the granularities' weights and the temperature."""

    settings: PurlsSettings
    shapes: Shapes

    def setup(self):
        settings = self.settings
        static = settings.partition == "static"
        self.partition: StaticPartition | TextAttention = (
            StaticPartition(self.shapes.skeleton, self.shapes.tokens[0])
            if static
            else TextAttention(settings.attention, settings.unit_logits)
        )
        head = HEADS[settings.head]
        self.project = head(self.shapes.text_width, settings.hidden, settings.dropout)
        self.alpha = self.param("alpha", nn.initializers.zeros, (len(GRANULARITIES),))
        self.log_scale = self.param("log_scale", nn.initializers.constant(-math.log(0.07)), ())

    def keys(self, tokens: Float[Array, "*B S n"]) -> Float[Array, "*B S h"]:
        """Keys (eq. 6)."""
        return self.partition.keys(tokens)

    def attend(self, keys, queries: Float[Array, "#B Q G d"]) -> Float[Array, "B Q G S"]:
        """Attention weights over tokens (eq. 5 and 7)."""
        return self.partition.attend(keys, queries)

    def gather_and_project(
        self, tokens: Float[Array, "B S n"], attention: Float[Array, "B Q G S"], train: bool = False
    ) -> Float[Array, "B Q G d"]:
        """Eq. 8-9: the gathered tokens in text space, unit rows `v`."""
        gathered = jnp.einsum("bqgs,bsn->bqgn", attention, tokens)
        return unit(self.project(gathered, train))

    def scale(self) -> Float[Array, ""]:
        """`1 / tau`, learned, at most 100."""
        return jnp.exp(at_most(self.log_scale, math.log(100.0)))

    def weights(self) -> Float[Array, " G"]:
        """The granularities' weights alpha (eq. 11), positive, with the sum 1; 0 if not used.

        The paper does not constrain them; unconstrained, they would diverge to minus infinity.
        """
        used = jnp.array(GRANULARITY_SETS[self.settings.granularities])
        used = jnp.isin(jnp.arange(len(GRANULARITIES)), used)
        learned = self.settings.weights == "learned"
        alpha = self.alpha if learned else jnp.zeros_like(self.alpha)
        return jax.nn.softmax(jnp.where(used, alpha, -jnp.inf))

    def __call__(self, tokens, queries):
        """Uses every parameter; for initialisation."""
        attention = self.attend(self.keys(tokens), queries)
        return self.gather_and_project(tokens, attention), self.scale(), self.weights()


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def at_most(x: Float[Array, ""], bound: float) -> Float[Array, ""]:
    """`min(x, bound)`, with gradients above the bound if gradient descent lowers `x`.

    A parameter above the bound can therefore return, and does not move further away.
    """
    return jnp.minimum(x, bound)


def _at_most_forward(x, bound):
    return at_most(x, bound), x


def _at_most_backward(bound, x, g):
    return (jnp.where((x < bound) | (g > 0), g, 0.0),)


at_most.defvjp(_at_most_forward, _at_most_backward)


def mean_text(classes: Float[Array, "C G d"]) -> Float[Array, "G d"]:
    """The label-free queries: the mean of the seen classes' text, unit rows."""
    return unit(classes.mean(axis=0))


@dataclass(frozen=True, eq=False)
class Purls:
    """The functions of the method, for `make`."""

    settings: PurlsSettings
    module: PurlsModule

    def _apply(self, variables: Variables, method: str, *args: Any, **kwargs: Any) -> Any:
        params = {"params": variables["params"]}
        return self.module.apply(params, *args, method=method, **kwargs)

    def init(self, key, tokens: Float[Array, "N S n"], text: Float[Array, "C G d"]) -> Variables:
        """Variables: parameters, mean and standard deviation of tokens, the label-free queries."""
        statistics = {"mean": tokens.mean(axis=(0, 1)), "std": tokens.std(axis=(0, 1)) + 1e-3}
        params = self.module.init(key, tokens[:1], text[None, :1]).get("params")
        variables = {"params": params, "tokens": statistics, "query": mean_text(text)}
        return variables | ({"mean_text": text.mean(axis=0)} if self.settings.centred else {})

    def encode(self, variables: Variables, tokens: Float[Array, "*B S n"]) -> VisualFeatures:
        """Standardised tokens and their keys."""
        statistics = variables["tokens"]
        tokens = (tokens - statistics["mean"]) / statistics["std"]
        return VisualFeatures(tokens, self._apply(variables, "keys", tokens))

    def bind(self, variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        """The text, centred if `settings.centred`, and the label-free queries."""
        if self.settings.centred:
            text = unit(text - variables["mean_text"][: text.shape[1]])
        return Candidates(text, variables["query"])

    def scored(self, candidates: Candidates) -> Candidates:
        """The granularities that `match` uses: the first one, or all.

        A joint head needs all of them.
        """
        if self.settings.score == "weighted" or self.settings.head == "joint":
            return candidates
        return jax.tree.map(lambda vectors: vectors[..., :1, :], candidates)

    def queries(self, candidates: Candidates) -> Float[Array, "1 Q G d"]:
        """The queries: one set for all classes, `Q = 1`, or one for each, `Q = C`.

        Raises:
          ValueError: the model has `query="oracle_label"` and needs the true labels.
        """
        if self.settings.query == "oracle_label":
            raise ValueError(
                "a model trained with query=oracle_label needs the true labels to predict; it has "
                "no zero-shot score (see the ORACLE result of `oracle`)"
            )
        if self.settings.query == "per_candidate":
            return candidates.classes[None]
        assert candidates.query is not None
        return candidates.query[None, None]

    def attend(self, variables, features: VisualFeatures, candidates: Candidates):
        """Attention weights over tokens, `[B, Q, G, S]` (eq. 5-7)."""
        return self._apply(variables, "attend", features.keys, self.queries(candidates))

    def embed(self, variables, features: VisualFeatures, candidates: Candidates):
        """The projected rows `v`, `[B, Q, G, d]` (eq. 5-9)."""
        return self._project(variables, features, self.queries(candidates))

    def _project(self, variables, features: VisualFeatures, queries, **training: Any):
        attention = self._apply(variables, "attend", features.keys, queries)
        return self._apply(variables, "gather_and_project", features.tokens, attention, **training)

    def scale(self, variables: Variables) -> Float[Array, ""]:
        """`1 / tau`."""
        return self._apply(variables, "scale")

    def match(self, variables, embedded, classes) -> Float[Array, "B C"]:
        """Logits of the granularities that are scored (eq. 14)."""
        if self.settings.score == "weighted":
            return self.match_all(variables, embedded, classes)
        similarity = cosines(embedded[..., :1, :], classes[:, :1])[..., 0]
        return self.scale(variables) * similarity

    def match_all(self, variables, embedded, classes) -> Float[Array, "B C"]:
        """Logits of all granularities, weighted by alpha."""
        similarity = cosines(embedded, classes) @ self._apply(variables, "weights")
        return self.scale(variables) * similarity

    def score(self, variables, features: VisualFeatures, candidates: Candidates):
        """Logits `[B, C]`: `match` of `embed` (eq. 14)."""
        scored = self.scored(candidates)
        return self.match(variables, self.embed(variables, features, scored), scored.classes)

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: Float[Array, "C G d"],
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """Eq. 10-11 on a batch of the seen classes."""
        tokens, labels = batch
        features, candidates = self.encode(variables, tokens), self.bind(variables, text)
        oracle = self.settings.query == "oracle_label"
        text = candidates.classes
        queries = text[labels][:, None] if oracle else self.queries(candidates)
        rngs = {"dropout": key}
        embedded = self._project(variables, features, queries, train=True, rngs=rngs)
        logits = self.scale(variables) * cosines(embedded, text)
        return symmetric_info_nce(logits, labels, self._apply(variables, "weights"))

    def oracle(self, variables, features, candidates, labels) -> Float[Array, "B C"]:
        """ORACLE, the published protocol: logits under queries from each sample's true label.

        The result gives no accuracy; it measures the effect of the protocol.

        Args:
          labels: `[B]` positions in `candidates.classes`.
        """
        scored = self.scored(candidates)
        queries = scored.classes[labels][:, None]
        return self.match(variables, self._project(variables, features, queries), scored.classes)


def make(settings: PurlsSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method for tokens and text of these shapes.

    Raises:
      ValueError: the partition is static and the tokens are not joints.
    """
    joints = shapes.skeleton.num_joints
    if settings.partition == "static" and shapes.tokens[1] != joints:
        raise ValueError(
            f"partition=static needs tokens of joints: expected {joints} "
            f"({shapes.skeleton.name}), got {shapes.tokens[1]}: set "
            "--config.method.purls.partition=adaptive, or --config.encoder.name=shift_gcn"
        )
    return method_of(Purls(settings, PurlsModule(settings, shapes)))


def method_of(purls: Purls) -> ZeroShotMethod:
    """The method of these functions; with an oracle if the queries come from true labels."""
    return ZeroShotMethod(
        encode=purls.encode,
        bind=purls.bind,
        score=purls.score,
        init=purls.init,
        loss=purls.loss,
        embedding=Embedding(
            embed=purls.embed,
            scored=purls.scored,
            match=purls.match,
            match_all=purls.match_all,
            scale=purls.scale,
        ),
        attend=purls.attend,
        oracle=purls.oracle if purls.settings.query == "oracle_label" else None,
    )


ENTRY = MethodEntry(
    make,
    PurlsSettings,
    description="The paper's static model: text attends to joints and frames",
    paper=Paper("Zhu et al., CVPR 2024", "https://arxiv.org/abs/2406.13327"),
)
