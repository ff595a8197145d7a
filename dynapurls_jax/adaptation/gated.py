"""The gate of generalised zero-shot recognition: sends samples to the seen or unseen classes.

Each side predicts and learns by its own method; the gate itself does not learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dynapurls_jax.adaptation.api import Method, Number, Prepared, State, UpdateInfo
from dynapurls_jax.adaptation.confidence import normalized_entropy
from dynapurls_jax.adaptation.registry import GATES
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod

Weights = tuple[float, ...]  # of the fitted score of `logistic_gate`; empty for others


def entropy(
    logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature: Number, weights: Weights
) -> Float[Array, " B"]:
    """Eq. 17 as a fraction of the maximum, log C: from 0 to 1 for any number of classes."""
    return normalized_entropy(logits / temperature)


def energy(
    logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature: Number, weights: Weights
) -> Float[Array, " B"]:
    """The energy score of Liu et al. 2020, with the mean over classes instead of their sum."""
    classes = jnp.isfinite(logits).sum(axis=-1)
    total = jax.nn.logsumexp(logits / temperature, axis=-1)
    return temperature * (jnp.log(classes) - total)


def stacking(
    logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature: Number, weights: Weights
) -> Float[Array, " B"]:
    """Calibrated stacking (Chao et al. 2016): the best unseen logit minus the best seen one.

    A threshold of `-gamma` gives the argmax after subtraction of `gamma` from all seen logits. The
    temperature has no effect.
    """
    best_seen = jnp.where(seen, logits, -jnp.inf).max(axis=-1)
    return jnp.where(seen, -jnp.inf, logits).max(axis=-1) - best_seen


def gate_score(
    name: str,
    logits: Float[Array, "B C"],
    seen: Bool[Array, " C"],
    temperature: Number,
    weights: Weights = (),
) -> Float[Array, " B"]:
    """A score of the registry `GATES`, higher if an unseen class is more likely.

    Args:
      logits: minus infinity for inactive classes.
      seen: the slots of seen classes.

    Raises:
      ValueError: unknown name, or a score without the weights that it needs.
    """
    return GATES.entry(name)(logits, seen, temperature, weights)


@dataclass(frozen=True)
class Gate:
    """A score and its threshold; see `evaluation.gzsl.gate_of`.

    Attributes:
      score: name in the registry `GATES`.
      temperature: of the score, in units of the zero-shot method's own temperature.
      threshold: `delta`; samples with a higher score are unseen.
      weights: of the score "logistic".
    """

    score: str = "entropy"
    temperature: Number = 1.0
    threshold: Number = 0.5
    weights: Weights = ()


def is_unseen(
    gate: Gate, logits: Float[Array, "B C"], seen: Bool[Array, " C"]
) -> Bool[Array, " B"]:
    """Which samples the gate sends to the unseen classes; a side without classes gets none.

    Raises:
      ValueError: see `gate_score`.
    """
    active = jnp.isfinite(logits)
    score = gate_score(gate.score, logits, seen, gate.temperature, gate.weights)
    above = score > gate.threshold
    return (above | ~(active & seen).any(axis=-1)) & (active & ~seen).any(axis=-1)


class Sides(NamedTuple):
    """A pair of values, one for each side; as inner state, those of the two methods."""

    seen: Any
    unseen: Any


def gated(
    model: ZeroShotMethod,
    variables: Variables,
    gate: Gate,
    seen_method: Method,
    unseen_method: Method,
    seen: Sequence[int] | Int[np.ndarray, " N"],
) -> Method:
    """Section 3.5: the gate uses the static logits, and each side has its own method.

    Only the side that the gate chooses predicts a sample and learns from it: the logits of the
    other side are minus infinity. Labels are slots, common to both sides.

    Args:
      model, variables: frozen; their static logits are the gate's input.
      seen_method, unseen_method: each has the state of all slots, of which its side is active.
      seen: slots of the seen classes. All others are unseen, including free slots; a class that is
        added later has the side of its slot.
    """
    methods = Sides(seen_method, unseen_method)

    def slots(capacity: int) -> Sides:
        """The slots of each side, `[C]`."""
        is_seen = jnp.isin(jnp.arange(capacity), jnp.asarray(seen, jnp.int32))
        return Sides(is_seen, ~is_seen)

    def side_states(state: State) -> list[State]:
        """The state of each side."""
        inner_states = state.inner_state or (None, None)
        return [
            state._replace(inner_state=inner_state, active=state.active & side)
            for inner_state, side in zip(inner_states, slots(len(state.active)), strict=True)
        ]

    def ahead(state: State, features: Any) -> tuple[Array, list]:
        static = model.score(variables, features, state.candidates)
        sides = zip(methods, side_states(state), strict=True)
        found = [method.ahead and method.ahead(side, features) for method, side in sides]
        return jnp.where(state.active, static, -jnp.inf), found

    def on_sides(state: State, prepared: Prepared) -> list[tuple[Method, State, Any]]:
        """Each side's method, its state, and its features."""
        each = zip(methods, side_states(state), prepared.found[1], strict=True)
        return [
            (method, side, method.given(prepared.features, found)) for method, side, found in each
        ]

    def init(candidates: Candidates, active) -> Sides:
        sides = zip(methods, slots(len(active)), strict=True)
        return Sides(*(method.init(candidates, active & side) for method, side in sides))

    def predict(state: State, prepared: Prepared) -> Float[Array, "B C"]:
        to_unseen = is_unseen(gate, prepared.found[0], slots(len(state.active)).seen)
        seen_logits, unseen_logits = (
            jnp.where(side.active, method.predict(side, features), -jnp.inf)
            for method, side, features in on_sides(state, prepared)
        )
        return jnp.where(to_unseen[:, None], unseen_logits, seen_logits)

    def learn(state: State, prepared: Prepared, logits, usable):
        inner_states, infos = [], []
        for method, side, features in on_sides(state, prepared):
            sent = side.active[logits.argmax(axis=-1)]
            # Samples of the other side have only infinite logits here: replaced by finite ones.
            side_logits = jnp.where(sent[:, None], logits, 0.0)
            side_logits = jnp.where(side.active, side_logits, -jnp.inf)
            inner_state, info = method.learn(side, features, side_logits, usable & sent)
            inner_states.append(inner_state)
            infos.append(info)
        either = UpdateInfo(*(a | b for a, b in zip(*infos, strict=True)))
        return Sides(*inner_states), either

    return Method(init, predict, learn, ahead=ahead)
