"""Test-time methods as pure functions, and the scan that runs them all.

A `Method` predicts and learns. `adapter_of` makes an `Adapter` of it, which handles samples that
are not finite, inactive classes, counters, and the order of prediction and update.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from dynapurls_jax.adaptation.scan import finite as finite
from dynapurls_jax.adaptation.scan import run_ahead
from dynapurls_jax.adaptation.scan import scan_chunks as scan_chunks
from dynapurls_jax.adaptation.scan import zero_unusable as zero_unusable
from dynapurls_jax.encoders.jit import platform
from dynapurls_jax.registry import Entry
from dynapurls_jax.zero_shot.base import Candidates

Number = float | int | Float[Array, ""] | Int[Array, ""]  # a setting; an array in sweeps


class State(NamedTuple):
    """The state of a stream: arrays of fixed shapes, so it can be checkpointed.

    Attributes:
      candidates: the static vectors of every slot, `C` of them: the capacity.
      active: the slots that hold a class; see `adaptation.class_slots`.
      key: of all randomness, as `jax.random.key_data`; each chunk folds in the number of usable
        samples before it.
      samples: number of samples so far, skipped ones included.
      skipped: number of samples that were not finite and changed nothing.
      inner_state: the method's own state; each method documents it.
    """

    candidates: Candidates
    active: Bool[Array, " C"]
    key: UInt32[Array, " words"]
    samples: Int[Array, ""]
    skipped: Int[Array, ""]
    inner_state: Any


class Prediction(NamedTuple):
    """The predictions for a chunk or a stream.

    Attributes:
      label: position in `Candidates.classes`; -1 for a skipped sample.
      confidence: probability of the predicted class; 0 for a skipped sample.
      logits: of all slots; minus infinity for an inactive slot.
      admitted: whether the method accepted the sample for learning.
      adapted: whether the method changed its state with this chunk.
      skipped: whether the sample was not finite.
    """

    label: Int[Array, " B"]
    confidence: Float[Array, " B"]
    logits: Float[Array, "B C"]
    admitted: Bool[Array, " B"]
    adapted: Bool[Array, " B"]
    skipped: Bool[Array, " B"]


class UpdateInfo(NamedTuple):
    """The report of `Method.learn` on a chunk; see `Prediction`."""

    admitted: Bool[Array, " B"]
    adapted: Bool[Array, ""]


class Method(NamedTuple):
    """A test-time method. No function takes labels.

    `features` are those of a chunk: a pytree with leaves `[B, ...]`, from `ZeroShotMethod.encode`.

    Attributes:
      init: `(candidates, active) -> inner_state`.
      predict: `(state, features) -> logits [B, C]`. Values of inactive slots are not used.
      learn: `(state, features, logits, usable [B]) -> (inner_state, UpdateInfo)`. The logits are
        those of `predict`, minus infinity for inactive slots. Samples that are not usable must have
        no effect; a chunk without any usable one must not change `inner_state`.
      classes: `state -> [C, R, e]`: the class vectors that `predict` uses, unit rows; the static
        ones for a method that does not change them.
      ahead: `(state, features) -> found`: values that depend only on a chunk, the static
        candidates, the key and the counters. A stream computes them for many chunks at once, before
        its loop; `state.inner_state` is then None. `predict` and `learn` get `Prepared` features.
    """

    init: Callable[[Candidates, Array], Any]
    predict: Callable[[State, Any], Array]
    learn: Callable[[State, Any, Array, Array], tuple[Any, UpdateInfo]]
    classes: Callable[[State], Array] = lambda state: state.candidates.classes
    ahead: Callable[[State, Any], Any] | None = None

    def given(self, features: Any, found: Any) -> Any:
        """Features as `predict` and `learn` take them.

        Args:
          found: the result of `ahead` for them.
        """
        return features if self.ahead is None else Prepared(features, found)


class Prepared(NamedTuple):
    """Features, and the result of `Method.ahead` for them."""

    features: Any
    found: Any


def learns_nothing(state: State, features: Any, logits, usable) -> tuple[Any, UpdateInfo]:
    """`Method.learn` of a method without a state."""
    return (), UpdateInfo(jnp.zeros_like(usable), jnp.array(False))


class Prompt(NamedTuple):
    """The prompt that `tpt` tunes.

    Attributes:
      start: `candidates -> prompt`, the initial prompt, which changes nothing.
      apply: `(prompt, candidates) -> candidates`, with the class vectors of the prompt.
    """

    start: Callable[[Candidates], Any]
    apply: Callable[[Any, Candidates], Candidates]


class StreamInfo(NamedTuple):
    """Properties of a stream that a test-time method needs before it starts.

    Attributes:
      sample: features of one sample, without a batch axis; only shapes and dtypes are used.
      chunks: number of chunks of the stream; None for an unbounded stream.
      prompt: of `tpt`; None if classes are added and retired.
    """

    sample: Any
    chunks: int | None = None
    prompt: Prompt | None = None

    @staticmethod
    def of(
        features: Any, samples: int | None = None, chunk: int = 1, prompt: Prompt | None = None
    ) -> "StreamInfo":
        """The information on a stream of `samples` samples in chunks of `chunk`.

        Args:
          features: of one or more samples, leaves `[B, ...]`.
          samples: length of the stream; None for an unbounded stream.
          chunk: samples of a chunk.
        """
        sample = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), features
        )
        return StreamInfo(sample, None if samples is None else -(-samples // chunk), prompt)


Needs = Literal["score", "embedding", "tokens"]


@dataclass(frozen=True)
class TestTimeEntry(Entry):
    """A test-time method in the registry; `make` is `(model, variables, settings, info) -> Method`.

    Attributes:
      needs: requirements on the zero-shot method. "score": none; "embedding": an `embedding`;
        "tokens": an `embedding`, `attend`, and features with leaves `[B, S, ...]`.
    """

    __test__ = False  # not a test case, despite the name
    needs: Needs = "score"


class Learned(NamedTuple):
    """The outputs of a stream's loop for a chunk: logits, and `UpdateInfo`."""

    logits: Float[Array, "B C"]
    info: UpdateInfo


class Adapter(NamedTuple):
    """A method for streams.

    Attributes:
      init: `(candidates, active=all, key=key(0)) -> state`.
      step: `(state, features of a chunk) -> (state, prediction)`. Pure, of fixed shapes.
      ahead, advance, finish: the three parts of a step: `(state, features) -> found`;
        `(state, features, found, usable) -> (inner_state, Learned)`, the only sequential part;
        `(Learned, usable) -> prediction`, for any number of samples.
    """

    init: Callable[..., State]
    step: Callable[[State, Any], tuple[State, Prediction]]
    ahead: Callable[[State, Any], Any]
    advance: Callable[[State, Any, Any, Array], tuple[Any, Learned]]
    finish: Callable[[Learned, Array], Prediction]


def adapter_of(method: Method, update_before_predict: bool = False) -> Adapter:
    """The adapter of a method.

    Args:
      update_before_predict: adapt to a chunk before it is predicted, as the published code does.
        By default every chunk is predicted before it is learned from, as in Algorithm 1.
    """

    def init(candidates: Candidates, active=None, key=None) -> State:
        active = jnp.ones(len(candidates.classes), bool) if active is None else jnp.asarray(active)
        key = jax.random.key(0) if key is None else key
        return State(
            candidates=candidates,
            active=active,
            key=jax.random.key_data(key),
            samples=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            inner_state=method.init(candidates, active),
        )

    def active_logits(state: State, features: Any) -> Float[Array, "B C"]:
        return jnp.where(state.active, method.predict(state, features), -jnp.inf)

    def ahead(state: State, features: Any) -> Any:
        return () if method.ahead is None else method.ahead(state, features)

    def advance(state: State, features: Any, found: Any, usable: Array) -> tuple[Any, Learned]:
        features = method.given(features, found)
        logits = active_logits(state, features)
        inner_state, info = method.learn(state, features, logits, usable)
        if update_before_predict:
            after = state._replace(
                inner_state=inner_state,
                samples=state.samples + len(usable),
                skipped=state.skipped + jnp.sum(~usable),
            )
            logits = active_logits(after, features)
        adapted = jnp.broadcast_to(info.adapted, usable.shape)
        return inner_state, Learned(logits, UpdateInfo(info.admitted, adapted))

    def finish(learned: Learned, usable: Array) -> Prediction:
        logits = learned.logits
        label = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        confidence = jnp.exp(logits.max(axis=-1) - jax.nn.logsumexp(logits, axis=-1))
        return Prediction(
            label=jnp.where(usable, label, -1),
            confidence=jnp.where(usable, confidence, 0),
            logits=logits,
            admitted=learned.info.admitted & usable,
            adapted=learned.info.adapted,
            skipped=~usable,
        )

    def step(state: State, features: Any) -> tuple[State, Prediction]:
        usable = finite(features)
        features = zero_unusable(features, usable)
        found = ahead(state._replace(inner_state=None), features)
        inner_state, learned = advance(state, features, found, usable)
        state = state._replace(
            inner_state=inner_state,
            samples=state.samples + len(usable),
            skipped=state.skipped + jnp.sum(~usable),
        )
        return state, finish(learned, usable)

    return Adapter(init, step, ahead, advance, finish)


def key_of_chunk(state: State) -> Array:
    """The key of the next chunk; skipped samples do not change it."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.samples - state.skipped)


MOST_AHEAD = 16  # samples of a chunk, at most, with which an accelerator's loop is latency-bound


@partial(jax.jit, static_argnums=0, static_argnames="chunk")
def run_stream(
    adapter: Adapter, state: State, features: Any, *, chunk: int = 1
) -> tuple[State, Prediction]:
    """Runs a method over a stream of samples, in order, as one `lax.scan` over chunks.

    Args:
      adapter: the method; compiled once for each adapter object and shape.
      state: from `adapter.init`, or from an earlier call, which continues the stream.
      features: leaves `[N, ...]`; the last chunk may be smaller.
      chunk: samples that are predicted and learned from together; 1 is online.

    Returns:
      The last state, and the predictions `[N, ...]`.
    """
    # A CPU has a chunk's features in its cache; large chunks keep an accelerator busy.
    if platform() == "cpu" or chunk > MOST_AHEAD:
        return scan_chunks(adapter.step, state, features, chunk=chunk)
    state, learned, usable = run_ahead(adapter, state, features, chunk)
    return state, adapter.finish(learned, usable)
