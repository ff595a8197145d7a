"""The zero-shot model as three pure functions: `init`, `loss`, `score`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.errors import unknown
from dynapurls_jax.zero_shot.nn.heads import HEADS
from dynapurls_jax.zero_shot.nn.losses import symmetric_info_nce
from dynapurls_jax.zero_shot.nn.partition import PartitionAlignment, Text, VisualFeatures, unit
from dynapurls_jax.config import GRANULARITIES, GRANULARITY_SETS, QUERIES, SCORES, WEIGHTS

Variables = dict[str, Any]


class ZeroShotModel(NamedTuple):
    """A zero-shot model over token batches.

    Attributes:
      init: `(key, tokens, text, pool=None) -> variables`; keeps the tokens' mean and deviation with
        them, and the pool `[G, S]` of a static partition, which takes the place of attention.
      loss: `(variables, tokens, labels, text, key) -> scalar`; the only one that takes labels.
      encode: `(variables, tokens) -> VisualFeatures`; everything that does not depend on text.
      queries: `text -> [1, Q, G, d]`: what the model asks with, one set for all classes (`Q = 1`)
        or one for each (`Q = C`).
      attend: `(variables, visual, queries [#B, Q, G, d]) -> [B, Q, G, S]`: where each description
        looks (eq. 5-7).
      project: `(variables, visual, queries [#B, Q, G, d]) -> v [B, Q, G, d]`, unit rows (eq. 5-9).
        A joint head needs all granularities, another takes as many as there are.
      match: `(variables, v, classes [C, G, d]) -> logits [B, C]` (eq. 14); reads `R` granularities.
      match_all: the same, with all granularities weighted by alpha.
      score: `(variables, visual, text) -> logits [B, C]`: `match` of `project` of `queries`.
      scale: `variables -> scalar`: the learned `1 / tau` by which `match` multiplies cosines.
      rows: `R`, how many of the `G` granularities `match` reads: the first one, or all.
    """

    init: Callable[..., Variables]
    loss: Callable[[Variables, Array, Array, Text, PRNGKeyArray], Array]
    encode: Callable[[Variables, Array], VisualFeatures]
    queries: Callable[[Text], Array]
    attend: Callable[[Variables, VisualFeatures, Array], Array]
    project: Callable[[Variables, VisualFeatures, Array], Array]
    match: Callable[[Variables, Array, Array], Array]
    match_all: Callable[[Variables, Array, Array], Array]
    score: Callable[[Variables, VisualFeatures, Text], Array]
    scale: Callable[[Variables], Array]
    rows: int


def mean_text(classes: Float[Array, "C G d"]) -> Float[Array, "G d"]:
    """The label-free queries: the mean of the seen classes' text, unit rows."""
    return unit(classes.mean(axis=0))


def similarity(rows: Float[Array, "B Q R d"], classes: Float[Array, "C R d"]):
    """Cosines `[B, C, R]` of projected rows with the classes' text; both have unit rows."""
    if rows.shape[1] == 1:  # one set of queries serves every class
        return jnp.einsum("bgd,cgd->bcg", rows[:, 0], classes)
    return jnp.einsum("bcgd,cgd->bcg", rows, classes)


def make_model(
    *,
    query: str,
    head: str,
    score: str,
    text_width: int,
    granularities: str = "all",
    weights: str = "learned",
    attention: int = 150,
    hidden: int = 512,
    dropout: float = 0.0,
) -> ZeroShotModel:
    """The DynaPURLS alignment model.

    Args:
      query: who asks. "per_candidate": every class with its own text. "label_free": one set of
        queries for all classes. "oracle_label": the true label's text while training, the
        published protocol; such a model cannot `score`, see `alignment.oracle`.
      head: "row" or "joint".
      score: "global" uses the global row alone (eq. 14), "weighted" all rows by alpha.
      granularities: which are trained and weighted: "all", "global", or global and "parts" or
        "phases" (Table 7).
      weights: of the granularities: "learned", or "average" for the same for all.
      text_width, attention, hidden: `d`, `h` and the head's hidden width.
      dropout: in the head, while training.

    Raises:
      ValueError: unknown query, head, score, granularities or weights; or a joint head with some
        granularities only.
    """
    for kind, value, known in (
        ("query", query, QUERIES),
        ("head", head, HEADS),
        ("score", score, SCORES),
        ("granularities", granularities, GRANULARITY_SETS),
        ("weights", weights, WEIGHTS),
    ):
        if value not in known:
            raise unknown(kind, value, known)
    if head == "joint" and granularities != "all":
        raise ValueError(
            f"head=joint reads all granularities together: expected granularities=all with it, got "
            f"{granularities}"
        )
    module = PartitionAlignment(
        *(head, text_width, attention, hidden, dropout),
        used=GRANULARITY_SETS[granularities],
        learned=weights == "learned",
    )
    # The row head takes each row on its own, so the global score needs no other.
    rows = 1 if score == "global" and head == "row" else len(GRANULARITIES)
    queries, project = partial(_queries, query), partial(_project, module)
    match = partial(_match_global if score == "global" else _match_all, module)
    return ZeroShotModel(
        init=partial(_init, module),
        loss=partial(_loss, module, query),
        encode=partial(_encode, module),
        queries=queries,
        attend=partial(_attend, module),
        project=project,
        match=match,
        match_all=partial(_match_all, module),
        score=partial(_score, queries, project, match, rows),
        scale=partial(_scale, module),
        rows=rows,
    )


def _apply(module: PartitionAlignment, variables: Variables, method: str, *args, **kwargs) -> Any:
    return module.apply({"params": variables["params"]}, *args, method=method, **kwargs)


def _init(module, key, tokens: Float[Array, "N S n"], text: Text, pool=None) -> Variables:
    statistics = {
        "mean": tokens.mean(axis=(0, 1)),
        "std": tokens.std(axis=(0, 1)) + 1e-3,
    }
    params = module.init(key, tokens[:1], text.classes[None, :1])["params"]
    partition = {} if pool is None else {"pool": jnp.asarray(pool)}
    return {"params": params, "tokens": statistics, **partition}


def _encode(module, variables: Variables, tokens: Float[Array, "*B S n"]) -> VisualFeatures:
    tokens = (tokens - variables["tokens"]["mean"]) / variables["tokens"]["std"]
    if "pool" not in variables:
        return VisualFeatures(tokens, _apply(module, variables, "keys", tokens))
    keys = jnp.log(variables["pool"].T + 1e-9)  # with each token, so that some can be left out
    return VisualFeatures(tokens, jnp.broadcast_to(keys, (*tokens.shape[:-1], keys.shape[-1])))


def _queries(query: str, text: Text) -> Float[Array, "1 Q G d"]:
    if query == "oracle_label":
        raise ValueError(
            "a model trained with query=oracle_label needs the true labels to predict; it has "
            "no zero-shot score (see dynapurls_jax.zero_shot.oracle)"
        )
    return text.query[None, None] if query == "label_free" else text.classes[None]


def _attend(module, variables: Variables, visual: VisualFeatures, queries) -> Float[Array, "B Q G S"]:
    if "pool" not in variables:
        return _apply(module, variables, "attend", visual, queries)
    fixed = jax.nn.softmax(jnp.moveaxis(visual.keys, -1, -2))[:, : queries.shape[2]]
    return jnp.broadcast_to(fixed[:, None], (len(fixed), queries.shape[1], *fixed.shape[1:]))


def _project(
    module, variables: Variables, visual: VisualFeatures, queries, **training: Any
) -> Float[Array, "B Q G d"]:
    attention = _attend(module, variables, visual, queries)
    return _apply(module, variables, "gather_and_project", visual, attention, **training)


def _loss(
    module,
    query: str,
    variables: Variables,
    tokens: Float[Array, "B S n"],
    labels: Int[Array, " B"],
    text: Text,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    visual = _encode(module, variables, tokens)
    asks = text.classes[labels][:, None] if query == "oracle_label" else _queries(query, text)
    rows = _project(module, variables, visual, asks, train=True, rngs={"dropout": key})
    logits = _scale(module, variables) * similarity(rows, text.classes)
    return symmetric_info_nce(logits, labels, _apply(module, variables, "weights"))


def _scale(module, variables: Variables) -> Float[Array, ""]:
    return _apply(module, variables, "scale")


def _match_all(module, variables: Variables, rows, classes) -> Float[Array, "B C"]:
    cosines = similarity(rows, classes) @ _apply(module, variables, "weights")
    return _scale(module, variables) * cosines


def _match_global(module, variables: Variables, rows, classes) -> Float[Array, "B C"]:
    cosines = similarity(rows[..., :1, :], classes[:, :1])[..., 0]
    return _scale(module, variables) * cosines


def _score(queries, project, match, rows: int, variables, visual, text) -> Float[Array, "B C"]:
    asked = queries(text)[..., :rows, :]
    return match(variables, project(variables, visual, asked), text.classes)
