"""DynaPURLS: scale and bias of the class vectors, learned online from pseudo-labels."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from dynapurls_jax.adaptation.api import (
    Method,
    Number,
    Prepared,
    State,
    StreamInfo,
    TestTimeEntry,
    UpdateInfo,
    key_of_chunk,
)
from dynapurls_jax.adaptation.memory import (
    Batch,
    Memory,
    balanced_batch,
    draw_words,
    empty_memory,
    insert,
    insert_latest,
)
from dynapurls_jax.adaptation.one_kernel import in_one_kernel
from dynapurls_jax.adaptation.refinement import Refinement, no_refinement, refine
from dynapurls_jax.adaptation.similarity import embedding_of
from dynapurls_jax.registry import check_at_least, check_choice
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod

EVICTIONS = ("least_confident", "least_recent")


class DynaPurlsState(NamedTuple):
    """The inner state: scale and bias, Adam's moments and number of updates, and the memory."""

    refinement: Refinement
    opt_state: optax.OptState
    memory: Memory


@dataclass(frozen=True)
class DynaPurlsSettings:
    """Settings of Algorithm 1 (values of section 4.1.4), and of what the paper does not specify.

    Those of type `Number` may be traced: `adaptation.sweep` runs a grid of them in one program.

    Attributes:
      learning_rate: of Adam.
      anneal: decay the rate by a cosine to 0 over the stream (the paper does not give the number of
        updates); an unbounded stream has a constant rate.
      steps: updates for each chunk.
      capacity: `K`, stored samples of each class. 0: no memory (Table 8); each update uses its
        chunk only.
      eviction: the sample that a full memory evicts: "least_confident" (the paper's) or
        "least_recent".
      threshold: `tau_conf`; only samples of a higher confidence (probability of the predicted
        class) are offered to the memory. 0.1 admits all samples with fewer than ten classes.
      min_samples: `B_min`, over all classes, before the first update (not in the paper).
      per_class: draws of each class in a balanced batch (not in the paper); 0 for all samples.
      anchor_weight: weight of 1 - cos(f', f), which keeps class vectors near the static ones.

    Raises:
      ValueError: a setting is out of range.
    """

    learning_rate: Number = 0.01
    anneal: bool = True
    steps: int = 1
    capacity: Number = 16
    eviction: str = "least_confident"
    threshold: Number = 0.1
    min_samples: Number = 16
    per_class: int = 1
    anchor_weight: Number = 0.0

    def __post_init__(self):
        check_choice("eviction", self.eviction, EVICTIONS)
        check_at_least(1, steps=self.steps)
        check_at_least(0, capacity=self.capacity, per_class=self.per_class)


def dynapurls(
    model: ZeroShotMethod,
    variables: Variables,
    settings: DynaPurlsSettings,
    info: StreamInfo,
    *,
    max_capacity: int | None = None,
) -> Method:
    """Algorithm 1: offer samples to the memory, then take a step on a balanced batch (eq. 12-16).

    Args:
      max_capacity: places allocated for each class, if `settings.capacity` is traced (in a sweep);
        by default the capacity.

    Raises:
      ValueError: the zero-shot method has no embedding.
    """
    scored = embedding_of(model).scored
    optimizer = optimizer_of(settings, info.chunks)
    places = int(settings.capacity) if max_capacity is None else max_capacity

    def init(candidates: Candidates, active) -> DynaPurlsState:
        classes = scored(candidates).classes
        refinement = no_refinement(classes)
        return DynaPurlsState(
            refinement=refinement,
            opt_state=optimizer.init(refinement),
            # At least one place: an array without elements cannot be saved.
            memory=empty_memory(len(classes), max(1, places), info.sample, settings.capacity),
        )

    def refined(state: State) -> Candidates:
        return refine(scored(state.candidates), state.inner_state.refinement, state.active)

    def ahead(state: State, features: Any) -> list[Array | None]:
        """The random words of each step's draws."""
        if not places or settings.per_class == 0:
            return [None] * settings.steps
        key, classes = key_of_chunk(state), len(state.active)
        keys = [jax.random.fold_in(key, step) for step in range(settings.steps)]
        return [draw_words(key, classes, settings.per_class) for key in keys]

    def predict(state: State, prepared: Prepared) -> Float[Array, "B C"]:
        static, active = scored(state.candidates), state.active

        def score(refinement: Refinement, features: Any) -> Float[Array, "B C"]:
            return model.score(variables, features, refine(static, refinement, active))

        return in_one_kernel(score, state.inner_state.refinement, prepared.features)

    def learn(state: State, prepared: Prepared, logits, usable):
        features = prepared.features
        labels = logits.argmax(axis=-1)
        top = logits.max(axis=-1)
        confidence = 1 / jnp.exp(logits - top[:, None]).sum(axis=-1)
        admitted = usable & (confidence > settings.threshold)
        memory = state.inner_state.memory
        if places and settings.eviction == "least_recent":
            memory = insert_latest(memory, labels, features, usable, admitted)
        elif places:
            memory = insert(memory, labels, confidence, features, admitted)
        stored = memory.filled & state.active[:, None]
        enough = usable.any() & (stored.sum() >= settings.min_samples)
        if not places:
            enough = admitted.any()

        def batch_of(step: int) -> Batch:
            if not places:
                return Batch(features, labels, admitted.astype(jnp.float32))
            return balanced_batch(memory, prepared.found[step], settings.per_class)

        before = state.inner_state.refinement, state.inner_state.opt_state
        refinement, opt_state = before
        gradient = partial(pseudo_label_gradient, model, variables, settings, state)
        for step in range(settings.steps):  # eq. 16
            grads = in_one_kernel(gradient, refinement, batch_of(step))
            updates, opt_state = optimizer.update(grads, opt_state)
            refinement = optax.apply_updates(refinement, updates)
        # A select, not a cond: a branch would copy the memory.
        refinement, opt_state = optax.tree.where(enough, (refinement, opt_state), before)
        return DynaPurlsState(refinement, opt_state, memory), UpdateInfo(admitted, enough)

    return Method(init, predict, learn, lambda state: refined(state).classes, ahead)


def pseudo_label_gradient(
    model: ZeroShotMethod,
    variables: Variables,
    settings: DynaPurlsSettings,
    state: State,
    refinement: Refinement,
    batch: Batch,
) -> Refinement:
    """The gradient of eq. 15, the cross-entropy with the pseudo-labels, by the parameters."""
    static = embedding_of(model).scored(state.candidates)

    def score(refinement: Refinement) -> Float[Array, "B C"]:
        return model.score(variables, batch.samples, refine(static, refinement, state.active))

    def distance(refinement: Refinement) -> Float[Array, ""]:
        moved = refine(static, refinement, state.active)
        each = (1 - jnp.sum(moved.classes * static.classes, axis=-1)).mean(axis=-1)
        return settings.anchor_weight * jnp.sum(state.active * each) / state.active.sum()

    logits, back = jax.vjp(score, refinement)
    share = jax.nn.softmax(jnp.where(state.active, logits, -jnp.inf))
    weight = batch.weight / jnp.maximum(batch.weight.sum(), 1)
    # The gradient of the cross-entropy by the logits; inactive classes have a probability of 0.
    (found,) = back(weight[:, None] * (share - jax.nn.one_hot(batch.labels, share.shape[1])))
    if isinstance(settings.anchor_weight, float) and settings.anchor_weight == 0:
        return found
    return jax.tree.map(jnp.add, found, jax.grad(distance)(refinement))


def optimizer_of(settings: DynaPurlsSettings, chunks: int | None) -> optax.GradientTransformation:
    """Section 4.1.4: Adam with a cosine decay over all updates of a stream.

    Args:
      chunks: of the stream; None for an unbounded one.
    """
    rate = settings.learning_rate
    if settings.anneal and chunks is not None:
        rate = optax.cosine_decay_schedule(rate, chunks * settings.steps)
    return optax.adam(rate)


ENTRY = TestTimeEntry(
    dynapurls,
    DynaPurlsSettings,
    "embedding",
    description="The paper's refinement: scale and bias, learned from a balanced memory",
    paper=Paper("Zhu et al., 2025", "https://arxiv.org/abs/2512.11941"),
)
