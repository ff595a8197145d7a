"""A grid of settings over several orders of a stream, as one compiled scan."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from dynapurls_jax.adaptation.api import (
    Method,
    StreamInfo,
    adapter_of,
    finite,
    scan_chunks,
    zero_unusable,
)
from dynapurls_jax.zero_shot.base import Candidates, Embedding, ZeroShotMethod


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SweepTask:
    """The common inputs of all runs of a sweep.

    Attributes:
      candidates: as for `adapter.init`.
      features: of all samples, leaves `[N, ...]`.
    """

    model: ZeroShotMethod = field(metadata={"static": True})
    candidates: Candidates
    features: Any


class Swept(NamedTuple):
    """Predictions of each setting and order; see `Prediction`."""

    label: Int[Array, "settings orders N"]
    confidence: Float[Array, "settings orders N"]
    admitted: Bool[Array, "settings orders N"]


class Numbered(NamedTuple):
    """A sample by its index.

    Attributes:
      number: index in `SweepTask.features`.
      damage: 0, or NaN for a sample that is not finite, so that it is skipped.
    """

    number: Int[Array, "*B"]
    damage: Float[Array, "*B"]


def grid_of(**axes) -> dict[str, np.ndarray]:
    """Every combination of some values, the `grid` of `sweep`; the last name varies fastest."""
    meshes = np.meshgrid(*map(np.asarray, axes.values()), indexing="ij")
    return {name: mesh.reshape(-1) for name, mesh in zip(axes, meshes, strict=True)}


@partial(jax.jit, static_argnums=0, static_argnames=("chunk", "update_before_predict"))
def sweep(
    make: Callable[..., Method],
    task: SweepTask,
    orders: Int[Array, "orders N"],
    keys: Key[Array, " orders"],
    grid: dict[str, Array],
    *,
    chunk: int = 1,
    update_before_predict: bool = False,
) -> Swept:
    """Runs every setting over every order, all at once.

    The features exist once: each run has only the indices of samples, also in its memory, and
    gathers features when it scores them. A method that uses the tokens of a sample itself cannot be
    swept.

      def make(model, info, **cell):
          settings = DynaPurlsSettings(**cell)
          return dynapurls(model, variables, settings, info, max_capacity=16)

      grid = grid_of(capacity=[4, 8, 16], threshold=[0.0, 0.1, 0.2])
      orders = np.stack([rng.permutation(len(labels)) for _ in range(5)])
      keys = jax.random.split(jax.random.key(0), 5)
      task = SweepTask(model, candidates, features)
      hits = sweep(make, task, orders, keys, grid).label == labels[orders]
      hits.mean(axis=(1, 2)).reshape(3, 3)  # accuracy: capacity by threshold

    Args:
      make: `(model, info, **cell) -> Method`, with a zero-shot method and a `StreamInfo` of
        `Numbered` samples, and one value of each name in `grid`, traced. Compiled once for each
        function and shape.
      orders: permutations of indices of the features.
      keys: of each order's randomness, as for `adapter.init`.
      grid: values of each setting, arrays of one length; settings of type `Number` may vary.
      chunk: see `run_stream`.
      update_before_predict: see `adapter_of`.

    Raises:
      ValueError: the method uses the tokens of samples (calip, tpt, tpt_residual).
    """
    usable = finite(task.features)
    model = numbered_model(task.model, zero_unusable(task.features, usable))
    damage = jnp.where(usable, 0.0, jnp.nan)

    def run(cell: dict[str, Array], order: Array, key: Array) -> Swept:
        samples = Numbered(order, damage[order])
        info = StreamInfo.of(samples, len(order), chunk)
        adapter = adapter_of(make(model, info, **cell), update_before_predict)

        def step(state, chunk_of_samples: Numbered):
            state, p = adapter.step(state, chunk_of_samples)
            return state, Swept(p.label, p.confidence, p.admitted)

        start = adapter.init(task.candidates, key=key)
        return scan_chunks(step, start, samples, chunk=chunk)[1]

    every_order = jax.vmap(run, in_axes=(None, 0, 0))
    return jax.vmap(every_order, in_axes=(0, None, None))(grid, orders, keys)


def numbered_model(model: ZeroShotMethod, features: Any) -> ZeroShotMethod:
    """A zero-shot method that takes `Numbered` samples instead of features; it has no tokens."""

    def looked_up(samples: Numbered) -> Any:
        return jax.tree.map(lambda leaf: leaf[samples.number], features)

    def score(variables, samples: Numbered, candidates: Candidates) -> Array:
        return model.score(variables, looked_up(samples), candidates)

    def embedding_on_numbers(embedding: Embedding) -> Embedding:
        def embed(variables, samples: Numbered, candidates: Candidates) -> Array:
            return embedding.embed(variables, looked_up(samples), candidates)

        return embedding._replace(embed=embed)

    embedding = None if model.embedding is None else embedding_on_numbers(model.embedding)
    return model._replace(score=score, embedding=embedding, attend=None)
