"""Test-time methods as pure functions, and the one scan that runs them all.

A *method* knows how to predict and how to learn. `adapter_of` makes it an *adapter*: whatever is
the same for all methods (samples that are no numbers, classes that are switched off, counters, who
comes first, predicting or learning) is done here, once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures

Number = float | int | Float[Array, ""] | Int[Array, ""]  # of settings: an array in sweeps


class State(NamedTuple):
    """Everything that lives through a stream: arrays of fixed shapes, so it can be checkpointed.

    Attributes:
      text: the static text of every slot, `C` of them: the capacity.
      active: which slots hold a class now; see `adaptation.classes`.
      key: of all randomness, as `jax.random.key_data`; each chunk folds in how many samples were
        used before it.
      samples: how many came so far, skipped ones included.
      skipped: how many of them were not finite and changed nothing.
      own: what the method itself remembers; each method documents its own.
    """

    text: Text
    active: Bool[Array, " C"]
    key: UInt32[Array, " words"]
    samples: Int[Array, ""]
    skipped: Int[Array, ""]
    own: Any


class Prediction(NamedTuple):
    """What a method says of each sample of a chunk.

    Attributes:
      label: position in `Text.classes`; -1 for a skipped sample, which is nobody's.
      confidence: the winner's probability; 0 for a skipped sample.
      logits: of all slots; minus infinity where no class is.
      admitted: whether the method chose to learn from the sample.
      adapted: whether the method changed itself at this chunk.
      skipped: whether the sample was not finite.
    """

    label: Int[Array, " B"]
    confidence: Float[Array, " B"]
    logits: Float[Array, "B C"]
    admitted: Bool[Array, " B"]
    adapted: Bool[Array, " B"]
    skipped: Bool[Array, " B"]


class UpdateInfo(NamedTuple):
    """What `Method.learn` tells of a chunk; see `Prediction`."""

    admitted: Bool[Array, " B"]
    adapted: Bool[Array, ""]


def static_classes(state: State) -> Float[Array, "C G d"]:
    """The text as it came."""
    return state.text.classes


class Method(NamedTuple):
    """A test-time method; no label ever comes near it.

    Attributes:
      init: `(text, active) -> own`.
      predict: `(state, visual of a chunk) -> logits [B, C]`. Slots without a class may get
        anything.
      learn: `(state, visual, logits, usable [B]) -> (own, UpdateInfo)`. The logits are those of
        `predict`, minus infinity where no class is. Samples that are not usable must leave no
        trace; a chunk without any usable one must leave `own` as it is.
      classes: `state -> [C, R, d]`: the class vectors that `predict` matches with, unit rows; the
        static text where the method does not move it.
    """

    init: Callable[[Text, Array], Any]
    predict: Callable[[State, VisualFeatures], Array]
    learn: Callable[[State, VisualFeatures, Array, Array], tuple[Any, UpdateInfo]]
    classes: Callable[[State], Array] = static_classes


class Adapter(NamedTuple):
    """A method made ready for streams.

    Attributes:
      init: `(text, active=all, key=key(0)) -> state`.
      step: `(state, visual of a chunk) -> (state, prediction)`. Pure, of fixed shapes.
    """

    init: Callable[..., State]
    step: Callable[[State, VisualFeatures], tuple[State, Prediction]]


def adapter_of(method: Method, learn_first: bool = False) -> Adapter:
    """Makes a method an adapter.

    Args:
      method: what to run.
      learn_first: adapt to a chunk before it is predicted, as the published code does. Default:
        every sample is predicted by what was learned before it, as in Algorithm 1.
    """

    def init(text: Text, active=None, key=None) -> State:
        active = jnp.ones(len(text.classes), bool) if active is None else jnp.asarray(active)
        key = jax.random.key(0) if key is None else key
        return State(
            text=text,
            active=active,
            key=jax.random.key_data(key),
            samples=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            own=method.init(text, active),
        )

    def answer(state: State, visual: VisualFeatures) -> Float[Array, "B C"]:
        return jnp.where(state.active, method.predict(state, visual), -jnp.inf)

    def step(state: State, visual: VisualFeatures) -> tuple[State, Prediction]:
        usable = finite(visual)
        visual = without(visual, usable)
        logits = answer(state, visual)
        own, learned = method.learn(state, visual, logits, usable)
        state = state._replace(
            own=own,
            samples=state.samples + len(usable),
            skipped=state.skipped + jnp.sum(~usable),
        )
        if learn_first:
            logits = answer(state, visual)
        label = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        confidence = jnp.exp(logits.max(axis=-1) - jax.nn.logsumexp(logits, axis=-1))
        return state, Prediction(
            label=jnp.where(usable, label, -1),
            confidence=jnp.where(usable, confidence, 0),
            logits=logits,
            admitted=learned.admitted & usable,
            adapted=jnp.broadcast_to(learned.adapted, usable.shape),
            skipped=~usable,
        )

    return Adapter(init, step)


def finite(visual: VisualFeatures) -> Bool[Array, " B"]:
    """Which samples hold numbers only."""
    leaves = [jnp.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in visual]
    return jnp.stack(leaves).all(axis=0)


def without(visual: VisualFeatures, usable: Bool[Array, " B"]) -> VisualFeatures:
    """Zeros in place of the samples that are not usable."""

    def keep(leaf):
        return jnp.where(usable.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0)

    return jax.tree.map(keep, visual)


@partial(jax.jit, static_argnums=0, static_argnames=("chunk", "unroll"))
def run_stream(
    adapter: Adapter, state: State, stream: VisualFeatures, *, chunk: int = 1, unroll: int = 1
) -> tuple[State, Prediction]:
    """Runs a method over a stream of samples, in order, as one `lax.scan` over chunks.

    Args:
      adapter: the method; compiled once for each adapter object and shape.
      state: from `adapter.init`, or from an earlier call: streams can be continued.
      stream: samples along the leading axis; the last chunk may be smaller.
      chunk: samples that are predicted and learned from together; 1 is online.
      unroll: chunks in one turn of the loop; changes speed alone.

    Returns:
      The last state, and the predictions with a leading axis of samples.
    """
    return scan_chunks(adapter.step, state, stream, chunk=chunk, unroll=unroll)


def scan_chunks(step: Callable, state: State, samples: Any, *, chunk: int, unroll: int):
    """`lax.scan` over chunks of samples; the last one may be smaller.

    Args:
      step: `(state, chunk of samples) -> (state, answers)`.
      samples: a pytree with a leading axis of samples, as the returned answers have.
    """
    count = len(jax.tree.leaves(samples)[0])
    whole = count // chunk * chunk
    chunks = jax.tree.map(
        lambda leaf: leaf[:whole].reshape(whole // chunk, chunk, *leaf.shape[1:]), samples
    )
    state, answers = jax.lax.scan(step, state, chunks, unroll=unroll)
    answers = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), answers)
    if whole < count:
        state, rest = step(state, jax.tree.map(lambda leaf: leaf[whole:], samples))
        answers = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), answers, rest)
    return state, answers
