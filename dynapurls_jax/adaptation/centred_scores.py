"""Logits around the stream's own mean of each class; works for every zero-shot method.

Some classes are near to all clips (hubs): their logits are high whatever a clip shows. The running
mean `m_c` of the logits of a class is subtracted, apart from what all classes have in common:

    z'_c = z_c - n / (n + n0) (m_c - mean over classes of m),  m_c = mean of z_c over n samples

G. Dinu, A. Lazaridou and M. Baroni, "Improving zero-shot learning by mitigating the hubness
problem", ICLR workshops 2015, correct rankings globally; this is a correction along a stream.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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
from dynapurls_jax.registry import check_positive
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod


class Sums(NamedTuple):
    """The sum of the logits of each class, and the number of samples."""

    total: Float[Array, " C"]
    seen: Float[Array, ""]


@dataclass(frozen=True)
class CentredScoresSettings:
    """The settings.

    Attributes:
      mean_count: `n0`, samples at which half of the mean is subtracted.

    Raises:
      ValueError: a setting is out of range.
    """

    mean_count: Number = 20.0

    def __post_init__(self):
        check_positive(mean_count=self.mean_count)


def centred_scores(
    model: ZeroShotMethod,
    variables: Variables,
    settings: CentredScoresSettings,
    info: StreamInfo | None = None,
) -> Method:
    """The method of the module's docstring; a sample counts from the next chunk on."""

    def init(candidates: Candidates, active: Bool[Array, " C"]) -> Sums:
        return Sums(jnp.zeros(len(active)), jnp.zeros(()))

    def ahead(state: State, features: Any) -> Float[Array, "B C"]:
        return model.score(variables, features, state.candidates)

    def predict(state: State, prepared: Prepared) -> Float[Array, "B C"]:
        sums, count = state.inner_state, jnp.maximum(state.active.sum(), 1)
        mean = sums.total / (settings.mean_count + sums.seen)
        common = jnp.where(state.active, mean, 0).sum() / count
        return prepared.found - (mean - common)

    def learn(state: State, prepared: Prepared, logits, usable: Bool[Array, " B"]):
        sums = state.inner_state
        kept = jnp.where(usable[:, None], prepared.found, 0)
        after = Sums(sums.total + kept.sum(axis=0), sums.seen + usable.sum())
        return after, UpdateInfo(usable, usable.any())

    return Method(init, predict, learn, ahead=ahead)


ENTRY = TestTimeEntry(
    centred_scores,
    CentredScoresSettings,
    "score",
    description="Logits around the stream's own mean of each class; for every zero-shot method",
    paper=Paper("hubness: Dinu et al., ICLR workshops 2015", "https://arxiv.org/abs/1412.6568"),
)
