"""Balanced prototypes: a class's text, drawn towards the mean of what is softly assigned to it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dynapurls_jax.adaptation.api import Learned, Method, State
from dynapurls_jax.adaptation.balance import balanced_assignment, uniform_prior
from dynapurls_jax.alignment.model import Variables, ZeroShotModel
from dynapurls_jax.alignment.partition import Text, Visual, unit

Number = float | int | Float[Array, ""] | Int[Array, ""]  # an array in sweeps


class Window(NamedTuple):
    """The last `W` samples as they lie in text space, and the classes' vectors drawn from them.

    Attributes:
      rows: projected rows `v`; `Q` is 1 (label-free) or `C` (per candidate).
      filled: how many of the `W` places hold a sample.
      place: where the next one goes.
      classes: the drawn class vectors `f'`.
    """

    rows: Float[Array, "W Q R d"]
    filled: Int[Array, ""]
    place: Int[Array, ""]
    classes: Float[Array, "C R d"]


@dataclass(frozen=True)
class BalancedSettings:
    """Defaults chosen on pseudo-unseen classes; docs/refinement.md has the study.

    Attributes:
      window: `W`, samples that are remembered.
      temperature: of the assignments, on cosines.
      rounds: of Sinkhorn's algorithm.
      strength: how far classes are balanced, from 0 (not at all) to 1.
      gain: how far a class's vector is drawn, at most.
      trust: assigned samples at which it is drawn half as far.
    """

    window: int = 512
    temperature: Number = 0.05
    rounds: int = 3
    strength: Number = 1.0
    gain: Number = 4.0
    trust: Number = 8.0


def balanced(model: ZeroShotModel, variables: Variables, settings: BalancedSettings) -> Method:
    """`f' = normalise(f + gain * w * mean)`, `w = count / (count + trust)`.

    Mean and count of a class are those of its balanced soft assignments over the window, which are
    made under the static text: they cannot feed on themselves. The queries stay as they are, so
    every sample is projected once, and only its rows are kept.

    Args:
      model, variables: frozen.
      settings: see `BalancedSettings`.
    """

    def project(state: State, visual: Visual) -> Float[Array, "B Q R d"]:
        return model.project(variables, visual, model.queries(state.text))

    def init(text: Text, active) -> Window:
        queries = model.queries(text).shape[1]
        classes = text.classes[:, : model.rows]
        none = jnp.zeros((), jnp.int32)
        rows = jnp.zeros((settings.window, queries, *classes.shape[1:]))
        return Window(rows, none, none, classes)

    def predict(state: State, visual: Visual) -> Float[Array, "B C"]:
        return model.match(variables, project(state, visual), state.own.classes)

    def learn(state: State, visual: Visual, logits, usable):
        window = remember(state.own, project(state, visual), usable)
        classes = draw(window, state)
        classes = jnp.where(usable.any(), classes, state.own.classes)
        return window._replace(classes=classes), Learned(usable, usable.any())

    def draw(window: Window, state: State) -> Float[Array, "C R d"]:
        """The class vectors, from the whole window."""
        static = state.text.classes[:, : model.rows]
        cosines = model.match(variables, window.rows, static) / model.scale(variables)
        possible = state.active & asked(window.rows)
        logits = jnp.where(possible, cosines / settings.temperature, -jnp.inf)
        held = jnp.arange(settings.window) < window.filled
        share = balanced_assignment(
            logits,
            held.astype(jnp.float32),
            uniform_prior(state.active),
            settings.rounds,
            settings.strength,
        )
        count = share.sum(axis=0)[:, None, None]
        rows = window.rows[:, 0] if window.rows.shape[1] == 1 else window.rows
        axes = "wc,wrd->crd" if rows.ndim == 3 else "wc,wcrd->crd"
        mean = jnp.einsum(axes, share, rows) / jnp.maximum(count, 1e-6)
        return unit(static + settings.gain * count / (count + settings.trust) * mean)

    return Method(init, predict, learn)


def asked(rows: Float[Array, "W Q R d"]) -> Bool[Array, "W Q"]:
    """Whether a sample was projected with a class's queries; not if the class came later."""
    return jnp.any(rows != 0, axis=(2, 3))


def remember(window: Window, rows: Float[Array, "B Q R d"], usable: Bool[Array, " B"]) -> Window:
    """Puts the usable samples of a chunk into the ring; of a chunk that is longer, the last."""
    size = len(window.rows)
    number = jnp.cumsum(usable) - 1
    kept = usable & (number >= usable.sum() - size)
    place = jnp.where(kept, (window.place + number) % size, size)
    return window._replace(
        rows=window.rows.at[place].set(rows, mode="drop"),
        filled=jnp.minimum(window.filled + usable.sum(), size),
        place=(window.place + usable.sum()) % size,
    )
