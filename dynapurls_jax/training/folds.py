"""Cross-validation over classes: how long to train is chosen on seen classes that are held out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dynapurls_jax.training.method_task import MethodTask, Samples, validation_accuracy
from dynapurls_jax.zero_shot.base import ZeroShotMethod

FEWEST = 2  # classes that a fold holds out, or trains on
TESTED = 1024  # samples that a fold is tested on, at most: more say little more


class Folds(NamedTuple):
    """The folds of a task: each trains on some of the `C` seen classes and is tested on the others.

    Attributes:
      kept: positions in the text of the classes that a fold trains on, `[K, C - m]` int32.
      held: of the classes that it is tested on, `[K, m]` int32.
      train, test: indices of the training samples of either, `[K, n]` and `[K, h]` int32, padded
        with -1.
    """

    kept: Any
    held: Any
    train: Any
    test: Any


def folds_of(task: MethodTask) -> Folds:
    """The folds of a task, of equal numbers of classes; no class is held out twice.

    There are `fit.folds` of them, or as many as hold out two classes; with fewer than four classes,
    none (`K` is 0).
    """
    labels = np.asarray(task.train.labels)
    classes = len(jax.tree.leaves(task.text)[0])
    count = min(task.settings.folds, classes // FEWEST) if classes >= 2 * FEWEST else 0
    if not count:
        return Folds(*(np.zeros((0, 1), np.int32) for _ in Folds._fields))
    size = classes // max(count, FEWEST)  # one fold alone does not hold out all
    order = np.random.default_rng((task.seed, 17)).permutation(classes)
    held = np.sort(order[: count * size].reshape(count, size).astype(np.int32))
    kept = np.stack([np.setdiff1d(np.arange(classes, dtype=np.int32), one) for one in held])
    rng = np.random.default_rng((task.seed, 19))
    train = [np.flatnonzero(np.isin(labels, one)) for one in kept]
    test = [rng.permutation(np.flatnonzero(np.isin(labels, one)))[:TESTED] for one in held]
    return Folds(kept, held, _padded(train), _padded(test))


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    longest = max(len(row) for row in rows)
    padded = [np.pad(row, (0, longest - len(row)), constant_values=-1) for row in rows]
    return np.stack(padded).astype(np.int32)


def fewest_samples(folds: Folds) -> int:
    """The number of training samples of the fold with the fewest."""
    return int((np.asarray(folds.train) >= 0).sum(axis=1).min())


def classes_of(text: Any, chosen: Int[Array, " c"]) -> Any:
    """The text of some of the classes."""
    return jax.tree.map(lambda array: array[chosen], text)


def relabelled(samples: Samples, chosen: Int[Array, " c"], num_classes: int) -> Samples:
    """The same samples with positions among some of the classes as labels; -1 for the others."""
    places = jnp.full(num_classes + 1, -1).at[chosen].set(jnp.arange(len(chosen)))
    return Samples(samples.tokens, places[samples.labels])  # padding, -1, reads the last place


def shuffled(key: PRNGKeyArray, indices: Int[Array, " n"], count: int) -> Int[Array, " count"]:
    """Some of the indices that are no padding, in random order."""
    ranks = jnp.where(indices >= 0, jax.random.uniform(key, indices.shape), 2.0)
    return indices[jnp.argsort(ranks)[:count]]


def held_out_accuracy(
    method: ZeroShotMethod, variables: Any, train: Samples, fold: Folds, text: Any
) -> Float[Array, ""]:
    """A fold's accuracy among its held-out classes, on all of their samples.

    Args:
      fold: one fold, without the leading axis.
      text: of all seen classes.
    """
    num_classes = len(jax.tree.leaves(text)[0])
    tokens, labels = train.tokens[fold.test], train.labels[fold.test]
    real = Samples(tokens, jnp.where(fold.test >= 0, labels, -1))
    samples = relabelled(real, fold.held, num_classes)
    return validation_accuracy(method, variables, samples, classes_of(text, fold.held))
