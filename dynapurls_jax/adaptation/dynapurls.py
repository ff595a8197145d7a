"""DynaPURLS: scale and bias on the text, learned online from the stream's own predictions."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from data_pipelines.errors import unknown
from dynapurls_jax.adaptation import confidence as sure
from dynapurls_jax.adaptation.api import UpdateInfo, Method, Number, State
from dynapurls_jax.adaptation.sinkhorn import balanced_assignment, uniform_prior
from dynapurls_jax.adaptation.memory import Batch, Memory, balanced_batch, empty_memory, insert
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures, unit
from dynapurls_jax.config import CONFIDENCES, KEEPS, REFINE_OPTIMIZERS, TARGETS, THRESHOLDS


class Refinement(NamedTuple):
    """The parameters of eq. 12, `S` and `Delta F`, for the `R` granularities that scoring reads.

    The others would never get a gradient.
    """

    scale: Float[Array, "C R d"]
    bias: Float[Array, "C R d"]


class Refined(NamedTuple):
    """What the method remembers: `State.own`.

    Attributes:
      refinement: scale and bias.
      opt_state: the optimizer's moments and the number of updates.
      memory: the class-balanced memory.
      recent: confidences of the last samples, for `threshold_kind="quantile"`.
    """

    refinement: Refinement
    opt_state: optax.OptState
    memory: Memory
    recent: sure.Recent


@dataclass(frozen=True)
class RefineSettings:
    """Algorithm 1 with section 4.1.4, and what the paper leaves open.

    Those of type `Number` may be traced: `adaptation.sweep` runs a grid of them in one program.

    Raises:
      ValueError: a name that does not exist.

    Attributes:
      learning_rate: of the optimizer.
      optimizer: "adam" (the paper's) or "sgd".
      horizon: updates over which the rate is cosine-annealed to 0 (the paper does not say how
        many); None for a constant rate, for streams without an end.
      steps: updates at each chunk.
      slots, capacity: `K`, samples kept of each class. `slots` is a shape; `capacity` says how many
        of them are used, None for all. Without slots there is no memory (Table 8): each chunk is
        learned from alone, once it is there.
      keep: what leaves a full memory: the least "confident" sample (the paper's) or the least
        "recent".
      confidence: "max" (the paper's), "ratio", "margin" or "entropy"; see
        `adaptation.confidence`.
      threshold: `tau_conf`; only a higher confidence is offered to the memory. 0.1 lets everything
        pass where there are fewer than ten classes.
      threshold_kind: "absolute", or "quantile" of the last `window` confidences.
      window: see `threshold_kind`.
      min_samples: `B_min`, over all classes, before the first update (not in the paper).
      per_class: draws of each class in a balanced batch (not in the paper); 0 for all that is held.
      targets: of the cross-entropy: "hard", the class under which a sample was kept (eq. 15), or
        "balanced", soft assignments over the batch under the present text.
      target_temperature: of "balanced" targets, in units of the model's own temperature.
      rounds: of Sinkhorn's algorithm, for "balanced" targets.
      pull: weight of the pull towards the static text, on 1 - cos(f', f).
    """

    learning_rate: Number = 0.01
    optimizer: str = "adam"
    horizon: int | None = 1000
    steps: int = 1
    slots: int = 16
    capacity: Number | None = None
    keep: str = "confident"
    confidence: str = "max"
    threshold: Number = 0.1
    threshold_kind: str = "absolute"
    window: int = 128
    min_samples: Number = 16
    per_class: int = 1
    targets: str = "hard"
    target_temperature: Number = 1.0
    rounds: int = 3
    pull: Number = 0.0

    def __post_init__(self):
        """Refuses names that do not exist."""
        for kind, known in (
            ("optimizer", REFINE_OPTIMIZERS),
            ("keep", KEEPS),
            ("confidence", CONFIDENCES),
            ("threshold_kind", THRESHOLDS),
            ("targets", TARGETS),
        ):
            if getattr(self, kind) not in known:
                raise unknown(kind, getattr(self, kind), known)


def refine(text: Text, refinement: Refinement, active) -> Text:
    """Eq. 12, for the classes; the label-free queries move as the classes move on average.

    With queries of its own the paper's eq. 13 refines them too. The label-free queries have no
    class, so they take the mean scale and bias of the active classes.
    """
    share = active / active.sum()
    scale, bias = (jnp.tensordot(share, leaf, 1) for leaf in refinement)
    return Text(
        classes=unit(refinement.scale * text.classes + refinement.bias),
        query=unit(scale * text.query + bias),
    )


def dynapurls(
    model: ZeroShotModel, variables: Variables, sample: VisualFeatures, settings: RefineSettings
) -> Method:
    """Algorithm 1: offer to the memory, take a step on a balanced batch of it.

    Args:
      model, variables: frozen.
      sample: any one sample of the stream; gives the memory its shapes.
      settings: see `RefineSettings`.
    """
    optimizer = optimizer_of(settings)

    def read(text: Text) -> Text:
        """The rows that scoring reads."""
        return Text(text.classes[:, : model.rows], text.query[: model.rows])

    def init(text: Text, active) -> Refined:
        classes = read(text).classes
        refinement = Refinement(jnp.ones_like(classes), jnp.zeros_like(classes))
        quantile = settings.threshold_kind == "quantile"
        return Refined(
            refinement=refinement,
            opt_state=optimizer.init(refinement),
            memory=empty_memory(len(classes), max(1, settings.slots), sample, settings.capacity),
            recent=sure.nothing_yet(settings.window if quantile else 1),  # 0 cannot be saved
        )

    def text_of(state: State) -> Text:
        return refine(read(state.text), state.own.refinement, state.active)

    def predict(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        return model.score(variables, visual, text_of(state))

    def loss(refinement: Refinement, state: State, batch: Batch) -> Float[Array, ""]:
        """Eq. 15: cross-entropy of the pseudo-labels under the current parameters."""
        static = read(state.text)
        refined = refine(static, refinement, state.active)
        logits = model.score(variables, batch.samples, refined)
        logits = jnp.where(state.active, logits, -1e9)  # finite: 0 times infinity is no gradient
        losses = optax.softmax_cross_entropy(
            logits, targets_of(settings, batch, logits, state.active)
        )
        away = (1 - jnp.sum(refined.classes * static.classes, axis=-1)).mean(axis=-1)
        pull = settings.pull * jnp.sum(state.active * away) / state.active.sum()
        return jnp.sum(batch.weight * losses) / jnp.maximum(batch.weight.sum(), 1) + pull

    def learn(state: State, visual: VisualFeatures, logits, usable):
        memory, recent, admitted = offer(settings, state.own, visual, logits, usable)
        held = memory.filled & state.active[:, None]
        enough = usable.any() & (held.sum() >= settings.min_samples)
        if not settings.slots:
            enough = admitted.any()
        used = state.samples - state.skipped  # a skipped sample must not change the draws
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), used)

        def update(number, carry):
            """Eq. 16, with Adam as in section 4.1.4."""
            refinement, opt_state = carry
            if settings.slots:
                drawn = jax.random.fold_in(key, number)
                batch = balanced_batch(memory, drawn, settings.per_class)
            else:
                labels = logits.argmax(axis=-1)
                batch = Batch(visual, labels, admitted.astype(jnp.float32))
            grads = jax.grad(loss)(refinement, state, batch)
            updates, opt_state = optimizer.update(grads, opt_state)
            return optax.apply_updates(refinement, updates), opt_state

        before = (state.own.refinement, state.own.opt_state)
        after = before
        for number in range(settings.steps):
            after = update(number, after)
        # A select, not a cond: the memory would be copied to get into a branch.
        refinement, opt_state = jax.tree.map(
            lambda new, old: jnp.where(enough, new, old), after, before
        )
        return Refined(refinement, opt_state, memory, recent), UpdateInfo(admitted, enough)

    return Method(init, predict, learn, lambda state: text_of(state).classes)


def optimizer_of(settings: RefineSettings) -> optax.GradientTransformation:
    """Section 4.1.4: Adam with a cosine; or what the settings say."""
    rate = settings.learning_rate
    if settings.horizon is not None:
        rate = optax.cosine_decay_schedule(rate, settings.horizon)
    return {"adam": optax.adam, "sgd": optax.sgd}[settings.optimizer](rate)


def targets_of(
    settings: RefineSettings,
    batch: Batch,
    logits: Float[Array, "B C"],
    active: Bool[Array, " C"],
) -> Float[Array, "B C"]:
    """What the cross-entropy aims at; no gradient goes through it."""
    if settings.targets == "hard":
        return jax.nn.one_hot(batch.labels, logits.shape[1])
    logits = logits / settings.target_temperature
    prior = uniform_prior(active)
    balanced = balanced_assignment(logits, batch.weight, prior, settings.rounds)
    return jax.lax.stop_gradient(balanced)


def offer(
    settings: RefineSettings,
    own: Refined,
    visual: VisualFeatures,
    logits: Float[Array, "B C"],
    usable: Bool[Array, " B"],
) -> tuple[Memory, sure.Recent, Bool[Array, " B"]]:
    """Offers a chunk to the memory: memory and confidences after it, and who was admitted."""
    values, recent = sure.confidence(settings.confidence, logits), own.recent
    if settings.threshold_kind == "absolute":
        admitted = usable & (values > settings.threshold)
    else:
        admitted = usable & sure.above_quantile(recent, values, settings.threshold)
        recent = sure.remember(recent, values, usable)
    memory, priority = own.memory, values
    if not settings.slots:
        return memory, recent, admitted
    if settings.keep == "recent":  # ages, not times: a float would run out of times
        memory = memory._replace(priority=memory.priority - usable.sum())
        priority = jnp.cumsum(usable).astype(jnp.float32)
    return insert(memory, logits.argmax(axis=-1), priority, visual, admitted), recent, admitted
