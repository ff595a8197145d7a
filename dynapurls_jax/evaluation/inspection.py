"""Everything that there is to look at in one run: probabilities, attention, features, texts.

Nothing here takes labels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynapurls_jax.adaptation import Adapter, Method, run_stream
from dynapurls_jax.adaptation.api import finite, without
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures

STAGES = 3  # parts of the stream between which the texts are looked at
BATCH = 256


class Inspection(NamedTuple):
    """One run along one order of its stream, all arrays but `order` in the order of `samples`.

    Attributes:
      samples: which of the run's samples the stream has, ascending; a skewed one has not all.
      order: of the stream, positions in `samples`.
      static, adapted: probabilities of the classes, before and along the stream.
      attention: where each description looked (eq. 7), of the static model. Per candidate, those
        of the class that it predicted.
      features: the projected global row `v` that belongs to that attention, unit rows.
      texts: the classes' global vectors before the stream and after each part of it.
    """

    samples: Int[np.ndarray, " N"]
    order: Int[np.ndarray, " N"]
    static: Float[np.ndarray, "N C"]
    adapted: Float[np.ndarray, "N C"]
    attention: Float[np.ndarray, "N G S"]
    features: Float[np.ndarray, "N d"]
    texts: Float[np.ndarray, "stages C d"]


def inspect_run(
    model: ZeroShotModel,
    variables: Variables,
    text: Text,
    stream: VisualFeatures,
    method: Method,
    adapter: Adapter,
    order: Int[np.ndarray, " N"],
    key: Array,
    chunk: int,
) -> Inspection:
    """Runs a method once more along one order, with all that predictions are made of.

    Args:
      method, adapter: the method, and the same ready for the stream.
      order, key, chunk: as for `predict_streams`, which then predicts the same.
    """
    samples = np.sort(order)
    order = np.searchsorted(samples, order)
    stream = jax.tree.map(lambda leaf: leaf[samples], stream)
    stream = without(stream, finite(stream))  # as the adapter itself sees it
    logits, attention, features = zip(
        *(look(model, variables, text, batch) for batch in _batches(stream)), strict=True
    )
    state = adapter.init(text, key=key)
    texts, parts, adapted = [method.classes(state)[:, 0]], _parts(order, chunk), []
    for part in parts:
        now = jax.tree.map(lambda leaf, part=part: leaf[part], stream)
        state, prediction = run_stream(adapter, state, now, chunk=chunk)
        adapted.append(prediction.logits)
        texts.append(method.classes(state)[:, 0])
    along = np.asarray(jax.nn.softmax(jnp.concatenate(adapted)))
    return Inspection(
        samples=samples,
        order=order,
        static=np.asarray(jax.nn.softmax(jnp.concatenate(logits))),
        adapted=along[np.argsort(order)],
        attention=np.concatenate(attention),
        features=np.concatenate(features),
        texts=np.stack(texts),
    )


def relative(
    attention: Float[np.ndarray, "G S"],
) -> tuple[Float[np.ndarray, "G S"], Float[np.ndarray, " G"], Float[np.ndarray, " G"]]:
    """Attention for the eye: 0 at a description's weakest token, 1 at its strongest.

    Returns:
      That, and the weakest and strongest in units of an even share, 1 / S: without them, attention
      that is all but even looks like any other.
    """
    low, high = attention.min(axis=-1), attention.max(axis=-1)
    spread = np.maximum(high - low, 1e-12)
    strength = (attention - low[:, None]) / spread[:, None]
    return strength, low * attention.shape[-1], high * attention.shape[-1]


def look(
    model: ZeroShotModel, variables: Variables, text: Text, visual: VisualFeatures
) -> tuple[Float[Array, "B C"], Float[Array, "B G S"], Float[Array, "B d"]]:
    """Logits, attention and global features of a batch; see `Inspection`."""
    logits = model.score(variables, visual, text)
    queries = model.queries(text)
    if queries.shape[1] > 1:  # of the predicted class alone
        queries = queries[0][logits.argmax(axis=-1)][:, None]
    attention = model.attend(variables, visual, queries)[:, 0]
    return logits, attention, model.project(variables, visual, queries)[:, 0, 0]


def _batches(stream: VisualFeatures) -> Iterator[VisualFeatures]:
    for start in range(0, len(stream.tokens), BATCH):
        yield jax.tree.map(lambda leaf, start=start: leaf[start : start + BATCH], stream)


def _parts(order: np.ndarray, chunk: int) -> list[np.ndarray]:
    """The order in `STAGES` parts of whole chunks, the last but for its end; none is empty."""
    chunks = -(-len(order) // chunk)
    edges = {round(chunks * stage / STAGES) * chunk for stage in range(1, STAGES)}
    parts = np.split(order, sorted(edges))
    return [part for part in parts if len(part)]
