"""The gate of generalised zero-shot recognition: is a sample of a seen or of an unseen class?

Each side answers and learns by a method of its own; the gate before them never learns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from data_pipelines.errors import unknown
from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures


def entropy(
    logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature
) -> Float[Array, " B"]:
    """Eq. 17 as a share of the highest there is, log C: from 0 to 1 for any number of classes."""
    classes = jnp.isfinite(logits).sum(axis=-1)
    nats = jax.scipy.special.entr(jax.nn.softmax(logits / temperature)).sum(axis=-1)
    return nats / jnp.log(jnp.maximum(classes, 2))


def energy(logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature) -> Float[Array, " B"]:
    """The energy score of Liu et al. 2020, with the mean over classes instead of their sum."""
    classes = jnp.isfinite(logits).sum(axis=-1)
    total = jax.nn.logsumexp(logits / temperature, axis=-1)
    return temperature * (jnp.log(classes) - total)


def stacking(logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature):
    """Calibrated stacking (Chao et al. 2016): the best unseen logit less the best seen one.

    A threshold of `-gamma` answers as the argmax does after `gamma` is taken from all seen logits.
    There is nothing that a temperature could change.
    """
    best_seen = jnp.where(seen, logits, -jnp.inf).max(axis=-1)
    return jnp.where(seen, -jnp.inf, logits).max(axis=-1) - best_seen


# All scores: `(logits [B, C], seen [C], temperature) -> [B]`, higher where unseen is more likely.
# The logits are minus infinity where no class is.
GATE_SCORES: dict[str, Callable[..., Array]] = {
    "entropy": entropy,
    "energy": energy,
    "stacking": stacking,
}


def gate_score(
    name: str, logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature: Number
) -> Float[Array, " B"]:
    """A score of `GATE_SCORES`, by name.

    Raises:
      ValueError: unknown name.
    """
    if name not in GATE_SCORES:
        raise unknown("gate", name, GATE_SCORES)
    return GATE_SCORES[name](logits, seen, temperature)


@dataclass(frozen=True)
class Gate:
    """A score, and from where on it says "unseen"; see `evaluation.gzsl.gate_of`.

    Attributes:
      score: name in `GATE_SCORES`.
      temperature: of the score, in units of the model's own temperature.
      threshold: `delta`; only a higher score is unseen.
    """

    score: str = "entropy"
    temperature: Number = 1.0
    threshold: Number = 0.5


def is_unseen(
    gate: Gate, logits: Float[Array, "B C"], seen: Bool[Array, " C"]
) -> Bool[Array, " B"]:
    """Which samples the gate sends to the unseen classes; a side without any class gets none."""
    there = jnp.isfinite(logits)
    above = gate_score(gate.score, logits, seen, gate.temperature) > gate.threshold
    return (above | ~(there & seen).any(axis=-1)) & (there & ~seen).any(axis=-1)


class Sides(NamedTuple):
    """What belongs to each side; of what the two methods remember it is `State.own`."""

    seen: Any
    unseen: Any


def gated(
    model: ZeroShotModel,
    variables: Variables,
    gate: Gate,
    seen_method: Method,
    unseen_method: Method,
    seen: Sequence[int] | Int[np.ndarray, " N"],
) -> Method:
    """Section 3.5: the gate reads the static model's logits, then each side works on its own.

    A sample is answered and learned by the side that it is sent to, and by that alone: the logits
    are minus infinity on the other one. Labels are slots, common to both sides.

    Args:
      model, variables: frozen; what the gate looks at.
      gate: see `Gate`.
      seen_method, unseen_method: refined or static; each has the state of all slots, of which its
        own side is active.
      seen: slots of the seen classes. All others are unseen, also those that no class holds yet; a
        class that is added later takes the side of its slot.
    """
    methods = Sides(seen_method, unseen_method)

    def sides(capacity: int) -> Sides:
        """Whose a slot is, `[C]` for each side."""
        is_seen = jnp.isin(jnp.arange(capacity), jnp.asarray(seen, jnp.int32))
        return Sides(is_seen, ~is_seen)

    def states(state: State) -> Sides:
        """The stream as each side sees it."""
        both = zip(state.own, sides(len(state.active)), strict=True)
        return Sides(*(state._replace(own=own, active=state.active & side) for own, side in both))

    def init(text: Text, active) -> Sides:
        both = zip(methods, sides(len(active)), strict=True)
        return Sides(*(method.init(text, active & side) for method, side in both))

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        static = jnp.where(state.active, model.score(variables, visual, state.text), -jnp.inf)
        to_unseen = is_unseen(gate, static, sides(len(state.active)).seen)
        seen_logits, unseen_logits = (
            jnp.where(side.active, method.predict(side, visual), -jnp.inf)
            for method, side in zip(methods, states(state), strict=True)
        )
        return jnp.where(to_unseen[:, None], unseen_logits, seen_logits)

    def learn(state: State, visual: VisualFeatures, logits, usable):
        owns, told = [], []
        for method, side in zip(methods, states(state), strict=True):
            sent = side.active[logits.argmax(axis=-1)]
            mine = jnp.where(sent[:, None], logits, 0.0)  # of the others' samples no infinities
            mine = jnp.where(side.active, mine, -jnp.inf)
            own, learned = method.learn(side, visual, mine, usable & sent)
            owns.append(own)
            told.append(learned)
        first, second = told
        return Sides(*owns), UpdateInfo(
            first.admitted | second.admitted, first.adapted | second.adapted
        )

    return Method(init, predict, learn)
