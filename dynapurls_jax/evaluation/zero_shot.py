"""Zero-shot predictions of a trained run on its unseen stream, static and adapted.

Nothing here takes labels; `evaluation.metrics` compares afterwards.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from data_pipelines.errors import unknown
from dynapurls_jax.adaptation import Adapter, RefineSettings, dynapurls, run_stream, static
from dynapurls_jax.alignment.model import Variables, ZeroShotModel, mean_text
from dynapurls_jax.alignment.partition import Text, Visual
from dynapurls_jax.config import ADAPTERS


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


def make_adapter(
    name: str,
    model: ZeroShotModel,
    variables: Variables,
    stream: Visual,
    settings: ConfigDict,
    seed: int,
) -> Adapter:
    """The test-time method of this name.

    Raises:
      ValueError: unknown name.
    """
    if name == "static":
        return static(model, variables)
    if name == "dynapurls":
        refine = RefineSettings(horizon=len(stream.tokens), **settings)
        sample = jax.tree.map(lambda leaf: leaf[0], stream)
        return dynapurls(model, variables, sample, refine, jax.random.key(seed))
    raise unknown("adapter", name, ADAPTERS)


def predict_streams(
    adapter: Adapter, text: Text, stream: Visual, orders: int, seed: int
) -> Streams:
    """Runs a method over `orders` seeded permutations of a stream, each from a fresh state."""
    samples = len(stream.tokens)
    rows = []
    for number in range(orders):
        order = np.random.default_rng((seed, number, 17)).permutation(samples)
        shuffled = jax.tree.map(lambda leaf, order=order: leaf[order], stream)
        _, prediction = run_stream(adapter, adapter.init(text), shuffled)
        p = jax.device_get(prediction)
        rows.append(Streams(order, p.label, p.confidence, p.admitted, p.adapted))
    return Streams(*(np.stack(column) for column in zip(*rows, strict=True)))
