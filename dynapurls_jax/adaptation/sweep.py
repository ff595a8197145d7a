"""A grid of settings over several orders of a stream, as one compiled scan."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from dynapurls_jax.adaptation.api import Method, adapter_of, finite, scan_chunks, without
from dynapurls_jax.zero_shot.purls import ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures


class Swept(NamedTuple):
    """What is kept of the predictions of each setting and order; see `Prediction`."""

    label: Int[Array, "settings orders N"]
    confidence: Float[Array, "settings orders N"]
    admitted: Bool[Array, "settings orders N"]


def grid_of(**axes) -> dict[str, np.ndarray]:
    """Every combination of some values, the last name running fastest: the `grid` of `sweep`."""
    meshes = np.meshgrid(*map(np.asarray, axes.values()), indexing="ij")
    return {name: mesh.reshape(-1) for name, mesh in zip(axes, meshes, strict=True)}


@partial(jax.jit, static_argnums=(0, 1), static_argnames=("chunk", "learn_first", "unroll"))
def sweep(
    make: Callable[..., Method],
    model: ZeroShotModel,
    text: Text,
    stream: VisualFeatures,
    orders: Int[Array, "orders N"],
    keys: Key[Array, " orders"],
    grid: dict[str, Array],
    *,
    chunk: int = 1,
    learn_first: bool = False,
    unroll: int = 1,
) -> Swept:
    """Runs every setting over every order, all at once.

    The samples of the stream are there once: each run has their numbers only, also in its memory,
    and looks them up where they are scored.

      def make(model, sample, **cell):
          return dynapurls(model, variables, sample, RefineSettings(slots=16, **cell))

      grid = grid_of(capacity=[4, 8, 16], threshold=[0.0, 0.1, 0.2])
      orders = np.stack([rng.permutation(len(labels)) for _ in range(5)])
      keys = jax.random.split(jax.random.key(0), 5)
      hits = sweep(make, model, text, stream, orders, keys, grid).label == labels[orders]
      hits.mean(axis=(1, 2)).reshape(3, 3)  # accuracy: capacity by threshold

    Args:
      make: `(model, sample, **cell) -> Method`, of a model and a sample that are given to it, with
        one value of each name in `grid`, traced. Compiled once for each function and shape.
      model: the zero-shot model.
      text: as for `adapter.init`.
      stream: all samples.
      orders: numbers of samples in the stream.
      keys: of each order's randomness, as for `adapter.init`.
      grid: values of each setting, arrays of one length; settings of type `Number` may vary.
      chunk, unroll: see `run_stream`.
      learn_first: see `adapter_of`.
    """
    usable = finite(stream)
    damage = jnp.where(usable, 0.0, jnp.nan)
    numbered = by_number(model, without(stream, usable))
    sample = VisualFeatures(jnp.zeros((), orders.dtype), jnp.zeros(()))

    def run(cell, order, key) -> Swept:
        adapter = adapter_of(make(numbered, sample, **cell), learn_first)

        def step(state, numbers):
            state, p = adapter.step(state, VisualFeatures(numbers, damage[numbers]))
            return state, Swept(p.label, p.confidence, p.admitted)

        start = adapter.init(text, key=key)
        return scan_chunks(step, start, order, chunk=chunk, unroll=unroll)[1]

    every_order = jax.vmap(run, in_axes=(None, 0, 0))
    return jax.vmap(every_order, in_axes=(0, None, None))(grid, orders, keys)


def by_number(model: ZeroShotModel, stream: VisualFeatures) -> ZeroShotModel:
    """A model that is given numbers of samples in place of their tokens.

    In place of their keys it is given anything; `sweep` gives NaN for a sample that is damaged, so
    that it is skipped as it would be itself.
    """

    def look_up(visual: VisualFeatures) -> VisualFeatures:
        return jax.tree.map(lambda leaf: leaf[visual.tokens], stream)

    def project(variables, visual, queries):
        return model.project(variables, look_up(visual), queries)

    def score(variables, visual, text):
        return model.score(variables, look_up(visual), text)

    return model._replace(project=project, score=score)
