"""Balanced prototypes: class vectors shifted towards the mean of the samples assigned to them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dynapurls_jax.adaptation.api import (
    Method,
    Number,
    Prepared,
    State,
    StreamInfo,
    TestTimeEntry,
    UpdateInfo,
)
from dynapurls_jax.adaptation.similarity import embedding_of, scored_shape
from dynapurls_jax.adaptation.sinkhorn import balanced_assignment, window_shares
from dynapurls_jax.registry import check_at_least, check_positive, check_share
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod, unit


class Window(NamedTuple):
    """The last `W` samples as vectors, in a ring buffer, and the shifted class vectors.

    Attributes:
      vectors: of the samples, in the granularities that are scored.
      evidence: cosines of each sample with the static class vectors; minus infinity for a class
        that was inactive when the sample arrived.
      filled: number of samples in the buffer.
      position: of the next sample.
      classes: the shifted class vectors `f'`.
    """

    vectors: Float[Array, "W Q R e"]
    evidence: Float[Array, "W C"]
    filled: Int[Array, ""]
    position: Int[Array, ""]
    classes: Float[Array, "C R e"]


@dataclass(frozen=True)
class BalancedSettings:
    """The method's settings; defaults were chosen on pseudo-unseen classes.

    The choice is in docs/studies/refinement.md.

    Attributes:
      window: `W`, number of samples in the buffer.
      temperature: of the assignments, on cosines.
      all_granularities: weight of all granularities (weighted by alpha) in the evidence of
        assignments; the scored granularities have the rest.
      sinkhorn_iterations: see `balanced_assignment`.
      share_count: pseudo-count of each class in the estimate of the class proportions. With few
        samples the proportions stay equal; many samples of unbalanced classes change them.
      gain: limit of the shift, as a factor of the mean of assigned samples.
      prior_count: number of assigned samples at which the shift is half of the limit.

    Raises:
      ValueError: a setting is out of range.
    """

    window: int = 512
    temperature: Number = 0.06
    all_granularities: Number = 0.5
    sinkhorn_iterations: int = 6
    share_count: Number = 8.0
    gain: Number = 8.0
    prior_count: Number = 60.0

    def __post_init__(self):
        check_at_least(1, window=self.window)
        check_at_least(0, sinkhorn_iterations=self.sinkhorn_iterations, gain=self.gain)
        check_share(all_granularities=self.all_granularities)
        check_positive(temperature=self.temperature, share_count=self.share_count)
        check_positive(prior_count=self.prior_count)


def balanced(
    model: ZeroShotMethod,
    variables: Variables,
    settings: BalancedSettings,
    info: StreamInfo,
    *,
    known_prior: Float[Array, " C"] | None = None,
) -> Method:
    """`f' = normalise(f + gain * sum / (count + prior_count))`.

    Sum and count of a class are those of its balanced soft assignments over the window. Assignments
    use the static class vectors, so that they do not reinforce themselves. Samples are embedded
    once: the buffer holds their vectors and their evidence.

    Args:
      known_prior: ORACLE, for studies: the true class proportions of the stream.

    Raises:
      ValueError: the zero-shot method has no embedding.
    """
    e = embedding_of(model)

    def init(candidates: Candidates, active) -> Window:
        classes = e.scored(candidates).classes
        shape = scored_shape(e, variables, info, candidates)
        return Window(
            vectors=jnp.zeros((settings.window, *shape)),
            evidence=jnp.full((settings.window, len(classes)), -jnp.inf),
            filled=jnp.zeros((), jnp.int32),  # two arrays, as steps can donate their state
            position=jnp.zeros((), jnp.int32),
            classes=classes,
        )

    def ahead(state: State, features: Any) -> dict[str, Array]:
        static = e.scored(state.candidates).classes
        embedded = e.embed(variables, features, state.candidates)
        vectors = embedded[..., : static.shape[1], :]
        scored = e.match(variables, vectors, static)
        every = e.match_all(variables, embedded, state.candidates.classes)
        weight = settings.all_granularities
        evidence = ((1 - weight) * scored + weight * every) / e.scale(variables)
        return {"vectors": vectors, "evidence": evidence}

    def predict(state: State, prepared: Prepared) -> Float[Array, "B C"]:
        return e.match(variables, prepared.found["vectors"], state.inner_state.classes)

    def learn(state: State, prepared: Prepared, logits, usable):
        window = append(state.inner_state, usable, **prepared.found)
        classes = jnp.where(usable.any(), shifted(window, state), state.inner_state.classes)
        return window._replace(classes=classes), UpdateInfo(usable, usable.any())

    def shifted(window: Window, state: State) -> Float[Array, "C R e"]:
        """The class vectors after the shift, from the whole window."""
        held = (jnp.arange(settings.window) < window.filled).astype(jnp.float32)
        share = assignment(settings, window.evidence, held, state.active, known_prior)
        means = means_of(share, window.vectors, settings.prior_count)
        return unit(e.scored(state.candidates).classes + settings.gain * means)

    return Method(init, predict, learn, lambda state: state.inner_state.classes, ahead)


def append(window: Any, usable: Bool[Array, " B"], **chunk: Float[Array, "B ..."]) -> Any:
    """Writes the usable samples of a chunk into the ring buffer, at most the last `W` of them.

    Args:
      window: a named tuple with `vectors`, `filled`, `position`, and the fields of `chunk`.
      chunk: the samples' rows, by name of a field.
    """
    size, total = len(window.vectors), usable.sum()
    number = jnp.cumsum(usable) - 1
    written = usable & (number >= total - size)
    position = jnp.where(written, (window.position + number) % size, size)
    rows = {
        name: getattr(window, name).at[position].set(new, mode="drop")
        for name, new in chunk.items()
    }
    return window._replace(
        **rows,
        filled=jnp.minimum(window.filled + total, size),
        position=(window.position + total) % size,
    )


def assignment(
    settings: BalancedSettings,
    evidence: Float[Array, "W C"],
    held: Float[Array, " W"],
    active: Bool[Array, " C"],
    prior: Float[Array, " C"] | None = None,
) -> Float[Array, "W C"]:
    """Balanced soft assignments of a window; see `balanced_assignment`.

    Args:
      evidence: minus infinity where a sample cannot belong to a class.
      held: 1 for a place with a sample, else 0.
      prior: proportion of each class; by default it is estimated.
    """
    possible = active & jnp.isfinite(evidence)
    held = held * possible.any(axis=1)  # 0 if all classes are newer than the sample
    logits = jnp.where(possible, evidence / settings.temperature, -jnp.inf)
    logits = jnp.where(held[:, None] > 0, logits, 0.0)  # weight 0, but must be finite
    iterations = settings.sinkhorn_iterations
    if prior is None:
        return window_shares(logits, held, active, settings.share_count, iterations)
    return balanced_assignment(logits, held, prior, iterations)


def means_of(
    share: Float[Array, "W C"], vectors: Float[Array, "W Q R e"], prior_count: Number
) -> Float[Array, "C R e"]:
    """Means of the samples assigned to each class, shrunk towards 0.

    Args:
      share: soft assignments.
      prior_count: pseudo-count of samples at 0.
    """
    if vectors.shape[1] == 1:
        total = jnp.einsum("wc,wrd->crd", share, vectors[:, 0])
    else:
        total = jnp.einsum("wc,wcrd->crd", share, vectors)
    return total / (share.sum(axis=0)[:, None, None] + prior_count)


ENTRY = TestTimeEntry(
    balanced,
    BalancedSettings,
    "embedding",
    description="Class vectors moved to the mean of the samples assigned to them",
)
