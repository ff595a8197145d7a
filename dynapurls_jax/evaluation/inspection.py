"""Probabilities, attention and vectors of one stream, for pages and figures; without labels."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynapurls_jax.adaptation.api import Adapter, Method, finite, run_stream, zero_unusable
from dynapurls_jax.evaluation.streams import StreamInputs
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.rng import key_of
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod

PARTS = 3  # parts of the stream; class vectors are recorded after each
BATCH = 256


class Inspection(NamedTuple):
    """One run on one stream order. All arrays but `order` have the order of `samples`.

    Attributes:
      samples: indices of the stream's samples among those of the task, ascending; a skewed stream
        has only some.
      order: indices into `samples`, in stream order.
      static, adapted: class probabilities without adaptation, and along the stream.
      attention: attention of each description over the tokens (eq. 7), by the static model; for
        queries of each class, that of the predicted class. None for a method without attention, or
        if tokens are not joints, on which pages and figures draw it.
      features: projected global vectors, unit rows; None for a method without an embedding.
      class_vectors: global vectors of the classes before the stream and after each part of it;
        None if `features` is None.
    """

    samples: Int[np.ndarray, " N"]
    order: Int[np.ndarray, " N"]
    static: Float[np.ndarray, "N C"]
    adapted: Float[np.ndarray, "N C"]
    attention: Float[np.ndarray, "N G S"] | None
    features: Float[np.ndarray, "N e"] | None
    class_vectors: Float[np.ndarray, "parts C e"] | None


def inspect_stream(
    run: TrainedRun,
    inputs: StreamInputs,
    method: Method,
    adapter: Adapter,
    order: Int[np.ndarray, " N"],
    chunk: int,
) -> Inspection:
    """Repeats the first stream order of a run, and records what `Inspection` has.

    Args:
      method, adapter: the test-time method, and its adapter.
      order, chunk: as for `predict_streams`; the predictions are the same.
    """
    model, key = run.method, key_of(run.seed, "stream", 0)
    samples = np.sort(order)
    order = np.searchsorted(samples, order)
    features = jax.tree.map(lambda leaf: leaf[samples], inputs.features)
    features = zero_unusable(features, finite(features))  # as in the adapter
    views = [
        static_view(model, run.variables, batch, inputs.candidates) for batch in _batches(features)
    ]
    logits, attention, vectors = zip(*views, strict=True)
    states, adapted = [adapter.init(inputs.candidates, key=key)], []
    for part in _parts(order, chunk):
        here = jax.tree.map(lambda leaf, part=part: leaf[part], features)
        state, prediction = run_stream(adapter, states[-1], here, chunk=chunk)
        states.append(state)
        adapted.append(prediction.logits)
    along = np.asarray(jax.nn.softmax(jnp.concatenate(adapted)))
    on_joints = run.token_shape[1] == run.inputs.skeleton.num_joints
    drawn = model.attend is not None and on_joints
    return Inspection(
        samples=samples,
        order=order,
        static=np.asarray(jax.nn.softmax(jnp.concatenate(logits))),
        adapted=along[np.argsort(order)],
        attention=np.concatenate(attention) if drawn else None,
        features=None if model.embedding is None else np.concatenate(vectors),
        class_vectors=None
        if model.embedding is None
        else np.stack([method.classes(state)[:, 0] for state in states]),
    )


class StaticView(NamedTuple):
    """Results of the static model for a batch; see `Inspection`."""

    logits: Float[Array, "B C"]
    attention: Float[Array, "B G S"] | None
    features: Float[Array, "B e"] | None


@partial(jax.jit, static_argnums=0)
def static_view(
    model: ZeroShotMethod, variables: Variables, features: Any, candidates: Candidates
) -> StaticView:
    """Logits of a batch, and attention and global vectors for the predicted class."""
    logits = model.score(variables, features, candidates)
    predicted = logits.argmax(axis=-1)

    def of_predicted(views: Float[Array, "B Q *rest"]) -> Float[Array, "B *rest"]:
        views = jnp.broadcast_to(views, (len(predicted), *views.shape[1:]))
        if views.shape[1] == 1:  # the same for all classes
            return views[:, 0]
        return views[jnp.arange(len(predicted)), predicted]

    attention = vectors = None
    if model.attend is not None:
        attention = of_predicted(model.attend(variables, features, candidates))
    if model.embedding is not None:
        scored = model.embedding.scored(candidates)
        vectors = of_predicted(model.embedding.embed(variables, features, scored))[:, 0]
    return StaticView(logits, attention, vectors)


def relative_attention(
    attention: Float[np.ndarray, "G S"],
) -> tuple[Float[np.ndarray, "G S"], Float[np.ndarray, " G"], Float[np.ndarray, " G"]]:
    """Scales the attention of each description to [0, 1] for drawing.

    Returns:
      The scaled attention, and its minimum and maximum as multiples of uniform attention 1 / S,
      without which nearly uniform attention looks like any other.
    """
    low, high = attention.min(axis=-1), attention.max(axis=-1)
    spread = np.maximum(high - low, 1e-12)
    strength = (attention - low[:, None]) / spread[:, None]
    return strength, low * attention.shape[-1], high * attention.shape[-1]


def _batches(features: Any) -> Iterator[Any]:
    count = len(jax.tree.leaves(features)[0])
    for start in range(0, count, BATCH):
        yield jax.tree.map(lambda leaf, start=start: leaf[start : start + BATCH], features)


def _parts(order: np.ndarray, chunk: int) -> list[np.ndarray]:
    """Splits the order into at most `PARTS` non-empty parts of whole chunks."""
    chunks = -(-len(order) // chunk)
    edges = {round(chunks * part / PARTS) * chunk for part in range(1, PARTS)}
    return [part for part in np.split(order, sorted(edges)) if len(part)]
