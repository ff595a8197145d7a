"""The interface of zero-shot methods, with its inputs and outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.skeletons import Skeleton
from dynapurls_jax.registry import Entry

Variables = dict[str, Any]


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A zero-shot method of the registry.

    Attributes:
      make: `(settings, shapes) -> ZeroShotMethod`.
      trained: whether it has a loss; otherwise it has a closed form, which is independent of seeds.
      sketches: whether its `text` is `ClassText`, with the classes' motion sketches.
      words: whether its `text` is `ClassText`, with the classes' verbs and nouns.
    """

    trained: bool = True
    sketches: bool = False
    words: bool = False


class ClassText(NamedTuple):
    """Descriptions of classes, for methods with `MethodEntry.sketches` or `.words`.

    Attributes:
      text: `F` `[C, G, d]`, unit rows.
      sketch: `[C, S, n]`, the encoder's tokens of the classes' animated motion sketches; NaN for a
        class without one; None for methods that do not take them.
      words: `[C, 2, d]`, unit vectors of a verb and of a noun for each class, 0 for a word that the
        text encoder has no vector of; None likewise.
    """

    text: Any
    sketch: Any = None
    words: Any = None


class Candidates(NamedTuple):
    """The candidate classes of a prediction, as vectors.

    Attributes:
      classes: unit vectors, `G` for each of `C` classes.
      query: unit vectors of the label-free queries, the same for all classes; None for a method
        without them.
    """

    classes: Float[Array, "C G e"]
    query: Float[Array, "G e"] | None = None


class Embedding(NamedTuple):
    """Samples and classes as unit vectors in one space; most test-time methods need it.

    `Q` is 1 if a sample has the same vectors for all classes, and `C` if it has different vectors
    for each class. The score uses `R` of the `G` granularities.

    Attributes:
      embed: `(variables, features, candidates) -> [B, Q, G, e]`: as many granularities as the
        candidates have.
      scored: `candidates -> candidates` with the `R` granularities that `match` uses; applied to
        its own result, it changes nothing.
      match: `(variables, embedded [B, Q, R, e], classes [C, R, e]) -> logits [B, C]`.
      match_all: `(variables, embedded [B, Q, G, e], classes [C, G, e]) -> logits [B, C]`, of all
        granularities.
      scale: `variables -> scalar`: the factor `1 / tau` of `match` on cosines.
    """

    embed: Callable[[Variables, Any, Candidates], Array]
    scored: Callable[[Candidates], Candidates]
    match: Callable[[Variables, Array, Array], Array]
    match_all: Callable[[Variables, Array, Array], Array]
    scale: Callable[[Variables], Array]


class ZeroShotMethod(NamedTuple):
    """A zero-shot method as pure functions. Only `fit`, `loss` and `oracle` take labels.

    A method has `fit` (closed form) or `init` and `loss` (trained by `training.fit`); the others
    are None. `text` is `F` `[C, G, d]`, unit rows, or `ClassText`; `fit`, `init` and `loss` get the
    text of the seen classes only.

    Attributes:
      encode: `(variables, tokens [B, S, n]) -> features`, a pytree with leaves `[B, ...]`: all that
        depends on the sample only, which a stream computes once, outside its loop.
      bind: `(variables, text) -> candidates`.
      score: `(variables, features, candidates) -> logits [B, C]`.
      fit: `(key, tokens [N, S, n], labels [N], text_seen) -> variables`.
      init: `(key, tokens [N, S, n], text_seen) -> variables`; `variables["params"]` is trained.
      loss: `(variables, (tokens [B, S, n], labels [B]), text_seen, key, step) -> scalar`; `step` is
        the number of steps before.
      embedding: None where samples and classes have no vectors in one space.
      attend: `(variables, features, candidates) -> [B, Q, G, S]`: attention weights over tokens;
        None for a method with pooled features.
      oracle: `(variables, features, candidates, labels [B]) -> logits [B, C]`, the published
        protocol, which uses the true labels: no accuracy. None for a method with a valid `score`.
    """

    encode: Callable[[Variables, Array], Any]
    bind: Callable[[Variables, Any], Candidates]
    score: Callable[[Variables, Any, Candidates], Array]
    fit: Callable[..., Variables] | None = None
    init: Callable[..., Variables] | None = None
    loss: Callable[..., Array] | None = None
    embedding: Embedding | None = None
    attend: Callable[..., Array] | None = None
    oracle: Callable[..., Array] | None = None


@dataclass(frozen=True)
class Shapes:
    """The shapes that a method is built for.

    Attributes:
      skeleton: of the clips.
      tokens: `(T', P, n)` of one clip.
      text_width: `d`.
    """

    skeleton: Skeleton
    tokens: tuple[int, int, int]
    text_width: int


def vector_embedding(embed: Callable[..., Array], scale: float) -> Embedding:
    """The embedding of a method with one vector for each clip and for each class.

    Args:
      embed: `(variables, features, candidates) -> [B, 1, 1, e]`, unit rows.
      scale: `1 / tau` of the logits on cosines.
    """

    def match(variables: Variables, embedded, classes) -> Float[Array, "B C"]:
        return scale * cosines(embedded, classes)[..., 0]

    return Embedding(
        embed=embed,
        scored=lambda candidates: candidates,
        match=match,
        match_all=match,
        scale=lambda variables: jnp.float32(scale),
    )


def vector_method(functions: Any, scale: float) -> ZeroShotMethod:
    """A method with a loss, and one vector for each clip and for each class.

    Args:
      functions: an object with `encode`, `bind`, `embed`, `init` and `loss`.
      scale: `1 / tau` of the logits on cosines.
    """
    embedding = vector_embedding(functions.embed, scale)
    return ZeroShotMethod(
        encode=functions.encode,
        bind=functions.bind,
        score=score_by(embedding),
        init=functions.init,
        loss=functions.loss,
        embedding=embedding,
    )


def score_method(functions: Any) -> ZeroShotMethod:
    """A method with a loss that scores clips and classes without vectors in one space.

    Args:
      functions: an object with `encode`, `bind`, `score`, `init` and `loss`.
    """
    return ZeroShotMethod(
        encode=functions.encode,
        bind=functions.bind,
        score=functions.score,
        init=functions.init,
        loss=functions.loss,
    )


def score_by(embedding: Embedding) -> Callable[[Variables, Any, Candidates], Array]:
    """`ZeroShotMethod.score` of a method with an embedding: `match` of `embed`."""

    def score(variables: Variables, features: Any, candidates: Candidates) -> Float[Array, "B C"]:
        scored = embedding.scored(candidates)
        embedded = embedding.embed(variables, features, scored)
        return embedding.match(variables, embedded, scored.classes)

    return score


def unit(x: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    """Rows of unit length; the gradient is finite at zero."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def cosines(
    embedded: Float[Array, "B Q R e"], classes: Float[Array, "C R e"]
) -> Float[Array, "B C R"]:
    """Cosines of samples with classes, both with unit rows."""
    if embedded.shape[1] == 1:  # the same vectors for all classes
        return jnp.einsum("bgd,cgd->bcg", embedded[:, 0], classes)
    return jnp.einsum("bcgd,cgd->bcg", embedded, classes)
