"""Balanced prototypes: a class's text, drawn towards the mean of what is softly assigned to it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from data_pipelines.errors import unknown
from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.adaptation.sinkhorn import balanced_assignment, estimated_prior, uniform_prior
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures, unit
from dynapurls_jax.config import PRIORS


class Window(NamedTuple):
    """The last `W` samples as they lie in text space, and the classes' vectors drawn from them.

    Attributes:
      rows: projected rows `v` that scoring reads; `Q` is 1 (label-free) or `C` (per candidate).
      evidence: cosines of each sample with the static text; minus infinity for a class that was
        not there when the sample came.
      filled: how many of the `W` places hold a sample.
      place: where the next one goes.
      classes: the drawn class vectors `f'`.
    """

    rows: Float[Array, "W Q R d"]
    evidence: Float[Array, "W C"]
    filled: Int[Array, ""]
    place: Int[Array, ""]
    classes: Float[Array, "C R d"]


@dataclass(frozen=True)
class BalancedSettings:
    """Defaults chosen on pseudo-unseen classes; docs/refinement.md has the study.

    Attributes:
      window: `W`, samples that are remembered.
      temperature: of the assignments, on cosines.
      all_rows: share of all granularities (weighted by alpha) in the evidence of assignments; the
        rest is what scoring reads.
      rounds, cap: of the balance; see `balanced_assignment`.
      prior: "uniform", or "estimated" along the stream, with `smoothing` samples a class.
      smoothing: see `prior`.
      passes: assignments in a step; from the second on samples are also drawn by the means.
      affinity: weight of the cosine with a class's mean beside that with its text.
      gain: how far a class's vector is drawn, at most.
      trust: assigned samples at which it is drawn half as far.
    """

    window: int = 512
    temperature: Number = 0.03
    all_rows: Number = 0.5
    rounds: int = 6
    cap: Number = 2.0
    prior: str = "uniform"
    smoothing: Number = 8.0
    passes: int = 2
    affinity: Number = 0.3
    gain: Number = 2.0
    trust: Number = 4.0


def balanced(
    model: ZeroShotModel,
    variables: Variables,
    settings: BalancedSettings,
    known_prior: Float[Array, " C"] | None = None,
) -> Method:
    """`f' = normalise(f + gain * sum / (count + trust))`.

    Sum and count of a class are those of its balanced soft assignments over the window. The
    evidence for these is the static text's, so they cannot feed on themselves; a second pass adds
    the likeness to the means of the first. The queries stay as they are, so no sample is ever
    projected again: its rows and its evidence are kept.

    Args:
      model, variables: frozen.
      settings: see `BalancedSettings`.
      known_prior: the classes' shares where they are known beforehand, in place of
        `settings.prior`; needs a cap that lets them be reached.

    Raises:
      ValueError: unknown prior.
    """
    if settings.prior not in PRIORS:
        raise unknown("prior", settings.prior, PRIORS)

    def read(rows: Float[Array, "*axes G d"]) -> Float[Array, "*axes R d"]:
        """The rows that scoring reads."""
        return rows[..., : model.rows, :]

    def cosines(rows: Float[Array, "W Q R d"], classes) -> Float[Array, "W C"]:
        return model.match(variables, rows, classes) / model.scale(variables)

    def init(text: Text, active) -> Window:
        classes, queries = read(text.classes), model.queries(text).shape[1]
        return Window(
            rows=jnp.zeros((settings.window, queries, *classes.shape[1:])),
            evidence=jnp.full((settings.window, len(classes)), -jnp.inf),
            filled=jnp.zeros((), jnp.int32),  # two arrays: steps that donate their state need it
            place=jnp.zeros((), jnp.int32),
            classes=classes,
        )

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        projected = model.project(variables, visual, read(model.queries(state.text)))
        return model.match(variables, projected, state.own.classes)

    def learn(state: State, visual: VisualFeatures, logits, usable):
        rows = model.project(variables, visual, model.queries(state.text))
        every = model.match_all(variables, rows, state.text.classes) / model.scale(variables)
        scored = cosines(read(rows), read(state.text.classes))
        evidence = (1 - settings.all_rows) * scored + settings.all_rows * every
        window = remember(state.own, read(rows), evidence, usable)
        classes = jnp.where(usable.any(), draw(window, state), state.own.classes)
        return window._replace(classes=classes), UpdateInfo(usable, usable.any())

    def assign(evidence, held, active) -> Float[Array, "W C"]:
        return assignment(settings, evidence, held, active, known_prior)

    def draw(window: Window, state: State) -> Float[Array, "C R d"]:
        """The class vectors, from the whole window."""
        held = (jnp.arange(settings.window) < window.filled).astype(jnp.float32)
        means = means_of(assign(window.evidence, held, state.active), window.rows, settings.trust)
        for _ in range(settings.passes - 1):
            evidence = window.evidence + settings.affinity * cosines(window.rows, means)
            means = means_of(assign(evidence, held, state.active), window.rows, settings.trust)
        return unit(read(state.text.classes) + settings.gain * means)

    return Method(init, predict, learn, lambda state: state.own.classes)


def remember(
    window: Window,
    rows: Float[Array, "B Q R d"],
    evidence: Float[Array, "B C"],
    usable: Bool[Array, " B"],
) -> Window:
    """Puts the usable samples of a chunk into the ring; of a chunk that is longer, the last."""
    size, total = len(window.rows), usable.sum()
    number = jnp.cumsum(usable) - 1
    kept = usable & (number >= total - size)
    place = jnp.where(kept, (window.place + number) % size, size)
    return window._replace(
        rows=window.rows.at[place].set(rows, mode="drop"),
        evidence=window.evidence.at[place].set(evidence, mode="drop"),
        filled=jnp.minimum(window.filled + total, size),
        place=(window.place + total) % size,
    )


def assignment(
    settings: BalancedSettings,
    evidence: Float[Array, "W C"],
    held: Float[Array, " W"],
    active: Bool[Array, " C"],
    known_prior: Float[Array, " C"] | None,
) -> Float[Array, "W C"]:
    """Balanced soft assignments of a window; see `balanced_assignment`.

    Args:
      evidence: minus infinity where a sample cannot belong to a class.
      held: 1 where the window holds a sample.
    """
    possible = active & jnp.isfinite(evidence)
    held = held * possible.any(axis=1)  # not where only classes are left that came later
    logits = jnp.where(possible, evidence / settings.temperature, -jnp.inf)
    logits = jnp.where(held[:, None] > 0, logits, 0.0)  # weighs nothing, but must be a number
    if known_prior is not None:
        prior = known_prior
    elif settings.prior == "estimated":
        prior = estimated_prior(logits, held, active, settings.smoothing)
    else:
        prior = uniform_prior(active)
    return balanced_assignment(logits, held, prior, settings.rounds, settings.cap)


def means_of(
    share: Float[Array, "W C"], rows: Float[Array, "W Q R d"], trust: Number
) -> Float[Array, "C R d"]:
    """Means of what is assigned to each class, shorter the less it is."""
    if rows.shape[1] == 1:
        total = jnp.einsum("wc,wrd->crd", share, rows[:, 0])
    else:
        total = jnp.einsum("wc,wcrd->crd", share, rows)
    return total / (share.sum(axis=0)[:, None, None] + trust)
