"""Predictions of a test-time method on several orders of a stream, without labels."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from data_pipelines.progress import progress
from dynapurls_jax.adaptation.api import Adapter, Prediction, run_stream
from dynapurls_jax.evaluation.settings import STREAMS
from dynapurls_jax.registry import check_choice
from dynapurls_jax.rng import key_of
from dynapurls_jax.zero_shot.base import Candidates


class StreamInputs(NamedTuple):
    """The samples of a stream and the candidate classes.

    Attributes:
      features: a pytree with leaves `[N, ...]`, from `ZeroShotMethod.encode`.
      active: `[C]` bool, the classes that may be predicted; None for all.
    """

    features: Any
    candidates: Candidates
    active: np.ndarray | Array | None = None


class Streams(NamedTuple):
    """Predictions on several orders of one stream; all arrays are in stream order.

    Attributes:
      order: indices into the samples.
      predicted: indices into the candidate classes.
      confidence: probability of the predicted class.
      admitted, adapted: see `Prediction`.
    """

    order: Int[np.ndarray, "orders N"]
    predicted: Int[np.ndarray, "orders N"]
    confidence: Float[np.ndarray, "orders N"]
    admitted: Bool[np.ndarray, "orders N"]
    adapted: Bool[np.ndarray, "orders N"]


def stream_order(kind: str, labels: np.ndarray, seed: int, number: int) -> np.ndarray:
    """One order of a stream; for "skewed" also a selection of its samples.

    Args:
      kind: "shuffled"; "blocked": one class after the other, in random order; "skewed": shuffled,
        and the first class of a random order has ten times the samples of the last. All skewed
        orders have the same length, since the largest count is the size of the smallest class.
      labels: `[N]`; they define the order only and are not passed to a method.
      seed, number: seed of the run, and number of the order.

    Returns:
      Indices into the samples, `[N]` or fewer.

    Raises:
      ValueError: the kind is unknown.
    """
    check_choice("kind of stream", kind, STREAMS)
    rng = np.random.default_rng((seed, number, 17))
    shuffled = rng.permutation(len(labels))
    if kind == "shuffled":
        return shuffled
    classes = rng.permutation(np.unique(labels))
    groups = [shuffled[labels[shuffled] == c] for c in classes]
    if kind == "blocked":
        return np.concatenate(groups)
    counts = min(map(len, groups)) * 10.0 ** -np.linspace(0, 1, len(classes))
    chosen = [g[: max(1, round(n))] for g, n in zip(groups, counts, strict=True)]
    return rng.permutation(np.concatenate(chosen))


def predict_streams(
    adapter: Adapter,
    inputs: StreamInputs,
    orders: Sequence[np.ndarray],
    seed: int,
    chunk: int = 1,
    title: str = "predicting",
) -> Streams:
    """Runs a test-time method on several orders of a stream, each from the initial state.

    Each device runs one order at a time. One adapter object compiles once for each shape.

    Args:
      orders: arrays of indices into the samples, all of one length.
      seed: seed of the run; each order has its own key.
      chunk: see `run_stream`.
      title: of the progress display.
    """
    order = np.stack(orders)
    devices = jax.local_devices()[: len(order)]
    mesh = Mesh(np.array(devices), ("orders",))
    numbers = np.arange(-(-len(order) // mesh.size) * mesh.size) % len(order)  # padded by repeats
    keys = jnp.stack([key_of(seed, "stream", int(n)) for n in numbers])
    if inputs.active is None:
        inputs = inputs._replace(active=np.ones(len(inputs.candidates.classes), bool))
    inputs = inputs._replace(active=jnp.asarray(inputs.active))
    parts: list[Prediction] = []
    with progress(title, len(order)) as report:
        for first in range(0, len(numbers), mesh.size):
            part = slice(first, first + mesh.size)
            found = _each_order(adapter, mesh, chunk, inputs, order[numbers[part]], keys[part])
            parts.append(jax.tree.map(np.asarray, found))
            report(min(part.stop, len(order)))
    p = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(order)], *parts)
    return Streams(order, p.label, p.confidence, p.admitted, p.adapted)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _each_order(adapter: Adapter, mesh: Mesh, chunk: int, inputs, orders, keys) -> Any:
    """Predictions `[orders, N]`; each device of the mesh has one order and its key."""

    def one(inputs: StreamInputs, order: Int[Array, " N"], key: Array) -> Prediction:
        shuffled = jax.tree.map(lambda leaf: leaf[order], inputs.features)
        state = adapter.init(inputs.candidates, inputs.active, key)
        return run_stream(adapter, state, shuffled, chunk=chunk)[1]

    def of_one_device(inputs, orders, keys) -> Prediction:
        return jax.lax.map(lambda pair: one(inputs, *pair), (orders, keys))

    whole, divided = PartitionSpec(), PartitionSpec("orders")
    run = jax.shard_map(
        of_one_device,
        mesh=mesh,
        in_specs=(whole, divided, divided),
        out_specs=divided,
        check_vma=False,
    )
    return run(inputs, orders, keys)
