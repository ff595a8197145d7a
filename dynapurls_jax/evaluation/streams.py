"""Zero-shot predictions of a trained run on its unseen stream, static and adapted.

Nothing here that predicts takes labels; `evaluation.metrics` compares afterwards.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from data_pipelines.errors import unknown
from dynapurls_jax.adaptation import Adapter, Prediction, run_stream
from dynapurls_jax.zero_shot.purls import mean_text
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures
from dynapurls_jax.config import ORDERS


class Streams(NamedTuple):
    """Predictions over several orders of one stream, each in stream order.

    Attributes:
      order: index into the stream's samples.
      predicted: positions in the candidate classes.
      confidence: of the predicted class.
      admitted, adapted: see `Prediction`.
    """

    order: Int[np.ndarray, "orders N"]
    predicted: Int[np.ndarray, "orders N"]
    confidence: Float[np.ndarray, "orders N"]
    admitted: np.ndarray
    adapted: np.ndarray


def candidate_text(text: Float[Array, "C G d"], seen: np.ndarray, unseen: np.ndarray) -> Text:
    """The unseen classes as candidates; label-free queries from the seen ones, as in training."""
    text = jnp.asarray(text)
    return Text(classes=text[unseen], query=mean_text(text[seen]))


def stream_order(kind: str, labels: np.ndarray, seed: int, number: int) -> np.ndarray:
    """One order of a stream, and for "skewed" which samples it has; made before any prediction.

    Args:
      kind: "shuffled"; "blocked": classes one after the other, in random order; "skewed": the
        first class of a random order has ten times the samples of the last, shuffled. A skewed
        stream is as long for every order: counts start from the smallest class.
      labels: of the samples. They make the test, as a camera would; no method sees them.
      seed, number: of the random generator.

    Raises:
      ValueError: unknown kind.
    """
    if kind not in ORDERS:
        raise unknown("kind of stream", kind, ORDERS)
    rng = np.random.default_rng((seed, number, 17))
    shuffled = rng.permutation(len(labels))
    if kind == "shuffled":
        return shuffled
    classes = rng.permutation(np.unique(labels))
    groups = [shuffled[labels[shuffled] == c] for c in classes]
    if kind == "blocked":
        return np.concatenate(groups)
    counts = min(map(len, groups)) * 10.0 ** -np.linspace(0, 1, len(classes))
    kept = [g[: max(1, round(n))] for g, n in zip(groups, counts, strict=True)]
    return rng.permutation(np.concatenate(kept))


def stream_key(seed: int, number: int) -> Array:
    """The randomness of a method along one order."""
    return jax.random.fold_in(jax.random.key(seed), number)


def predict_streams(
    adapter: Adapter,
    text: Text,
    stream: VisualFeatures,
    orders: Sequence[np.ndarray],
    seed: int,
    chunk: int = 1,
    active: Bool[np.ndarray, " C"] | None = None,
) -> Streams:
    """Runs a method over several orders of a stream, each from a fresh state and with its own key.

    The devices divide the orders: each of them runs its own, one after the other, and none waits
    for another. The same adapter object compiles once for each shape.

    Args:
      orders: of one length, indices into the stream.
      active: which classes of the text are candidates; None for all.
    """
    wanted = np.stack(orders)
    devices = jax.local_devices()[: len(wanted)]
    mesh = Mesh(np.array(devices), ("orders",))
    number = np.arange(-(-len(wanted) // mesh.size) * mesh.size) % len(wanted)  # some of them twice
    keys = jnp.stack([stream_key(seed, int(n)) for n in number])
    if active is None:
        active = np.ones(len(text.classes), bool)
    given = (text, stream, jnp.asarray(active))
    p = jax.device_get(_each_order(adapter, mesh, chunk, given, wanted[number], keys))
    kept = jax.tree.map(lambda leaf: leaf[: len(wanted)], p)
    return Streams(wanted, kept.label, kept.confidence, kept.admitted, kept.adapted)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _each_order(adapter: Adapter, mesh: Mesh, chunk: int, given, orders, keys) -> Prediction:
    """Predictions `[orders, N]`; orders and keys are divided over the mesh, all else is whole."""

    def one(given, order, key) -> Prediction:
        text, stream, active = given
        shuffled = jax.tree.map(lambda leaf: leaf[order], stream)
        return run_stream(adapter, adapter.init(text, active, key), shuffled, chunk=chunk)[1]

    def of_one_device(given, orders, keys) -> Prediction:
        return jax.lax.map(lambda own: one(given, *own), (orders, keys))

    whole, own = PartitionSpec(), PartitionSpec("orders")
    run = jax.shard_map(
        of_one_device, mesh=mesh, in_specs=(whole, own, own), out_specs=own, check_vma=False
    )
    return run(given, orders, keys)
