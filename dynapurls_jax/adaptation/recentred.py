"""Balanced prototypes on centred features, for streams from another sensor or place.

The mean feature of a stream differs from that of the training clips, more because of sensor, place
and persons than because of classes. The running mean is subtracted from every sample, and the mean
of the classes from the class vectors; the rest is `adaptation.balanced`. Domain adaptation by
statistics of features: B. Sun, J. Feng and K. Saenko, "Return of frustratingly easy domain
adaptation", AAAI 2016.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from data_pipelines.papers import Paper
from dynapurls_jax.adaptation.api import (
    Method,
    Number,
    Prepared,
    State,
    StreamInfo,
    TestTimeEntry,
    UpdateInfo,
)
from dynapurls_jax.adaptation.balanced import BalancedSettings, append, assignment, means_of
from dynapurls_jax.adaptation.similarity import embedding_of, scored_shape, scored_vectors
from dynapurls_jax.registry import check_positive
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod, unit


class Centre(NamedTuple):
    """The last samples, the sum of all, and the shift of the class vectors.

    Attributes:
      vectors: of the last `W` samples, not centred, in a ring buffer.
      filled: number of samples in the buffer.
      position: of the next sample.
      total: sum of the vectors of all samples.
      seen: number of all samples.
      drawn: the shift, which is added to the centred class vectors.
    """

    vectors: Float[Array, "W Q R e"]
    filled: Int[Array, ""]
    position: Int[Array, ""]
    total: Float[Array, "Q R e"]
    seen: Float[Array, ""]
    drawn: Float[Array, "C R e"]


@dataclass(frozen=True)
class RecentredSettings(BalancedSettings):
    """The settings of `balanced`, without effect of `all_granularities`, and one more.

    Attributes:
      mean_count: pseudo-count of the training mean in the running mean.

    Raises:
      ValueError: a setting is out of range.
    """

    mean_count: Number = 5.0

    def __post_init__(self):
        super().__post_init__()
        check_positive(mean_count=self.mean_count)


def recentred(
    model: ZeroShotMethod, variables: Variables, settings: RecentredSettings, info: StreamInfo
) -> Method:
    """`balanced` on `normalise(v - mean of the stream)`.

    A sample is centred by the mean of all samples up to and including it. For each assignment, the
    window is centred by the mean of all samples so far.

    Raises:
      ValueError: the zero-shot method has no embedding.
    """
    e = embedding_of(model)

    def static(candidates: Candidates, active: Bool[Array, " C"]) -> Float[Array, "C R e"]:
        classes = e.scored(candidates).classes
        weight = (active / jnp.maximum(active.sum(), 1))[:, None, None]
        # A single class equals the mean and is not centred.
        several = (active.sum() > 1).astype(jnp.float32)
        return unit(classes - several * (weight * classes).sum(axis=0))

    def init(candidates: Candidates, active) -> Centre:
        shape = scored_shape(e, variables, info, candidates)
        return Centre(
            vectors=jnp.zeros((settings.window, *shape)),
            filled=jnp.zeros((), jnp.int32),  # two arrays, as steps can donate their state
            position=jnp.zeros((), jnp.int32),
            total=jnp.zeros(shape),
            seen=jnp.zeros(()),
            drawn=jnp.zeros_like(e.scored(candidates).classes),
        )

    def classes(state: State) -> Float[Array, "C R e"]:
        return unit(static(state.candidates, state.active) + state.inner_state.drawn)

    def ahead(state: State, features: Any) -> Float[Array, "B Q R e"]:
        return scored_vectors(e, variables, features, state.candidates)

    def predict(state: State, prepared: Prepared) -> Float[Array, "B C"]:
        vectors = prepared.found
        centre = state.inner_state
        number = jnp.arange(1, len(vectors) + 1)[:, None, None, None]
        total = centre.total + jnp.cumsum(vectors, axis=0)
        mean = total / (settings.mean_count + centre.seen + number)
        return e.match(variables, unit(vectors - mean), classes(state))

    def learn(state: State, prepared: Prepared, logits, usable):
        vectors = prepared.found
        centre = append(state.inner_state, usable, vectors=vectors)
        kept = jnp.where(usable[:, None, None, None], vectors, 0)
        centre = centre._replace(
            total=centre.total + kept.sum(axis=0), seen=centre.seen + usable.sum()
        )
        shift = jnp.where(usable.any(), shift_of(centre, state), state.inner_state.drawn)
        return centre._replace(drawn=shift), UpdateInfo(usable, usable.any())

    def shift_of(centre: Centre, state: State) -> Float[Array, "C R e"]:
        """The shift of the class vectors, from the whole window."""
        mean = centre.total / (settings.mean_count + centre.seen)
        vectors, around = unit(centre.vectors - mean), static(state.candidates, state.active)
        evidence = e.match(variables, vectors, around) / e.scale(variables)
        held = (jnp.arange(settings.window) < centre.filled).astype(jnp.float32)
        share = assignment(settings, evidence, held, state.active)
        return settings.gain * means_of(share, vectors, settings.prior_count)

    return Method(init, predict, learn, classes, ahead)


ENTRY = TestTimeEntry(
    recentred,
    RecentredSettings,
    "embedding",
    description="`balanced` around the stream's own mean, for other sensors and places",
    paper=Paper("centring: Sun et al., AAAI 2016", "https://arxiv.org/abs/1511.05547"),
)
