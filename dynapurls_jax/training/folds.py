"""Cross-validation over classes: the classes and samples of the folds."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dynapurls_jax.training.method_task import MethodTask, Samples, validation_accuracy
from dynapurls_jax.zero_shot.base import ZeroShotMethod

FEWEST = 2  # least number of classes that a fold holds out, or trains on
TESTED = 1024  # most samples that a fold is tested on; more hardly change its accuracy


class Folds(NamedTuple):
    """The `K` folds of a task: each trains on some of the `C` seen classes and tests on the others.

    Attributes:
      kept: `[K, C - m]` int32, indices of the classes that a fold trains on.
      held: `[K, m]` int32, indices of its held-out classes.
      train, test: `[K, n]` and `[K, h]` int32, indices of the training samples of `kept` and
        `held`, padded with -1.
    """

    kept: Any
    held: Any
    train: Any
    test: Any


def folds_of(task: MethodTask) -> Folds:
    """The folds of a task; all hold out the same number of classes, and no class is held out twice.

    `K` is `fit.folds`, or less where a fold would hold out fewer than two classes. With fewer than
    four classes, and in the published protocol, `K` is 0. Shapes are the same for all seeds.
    """
    labels = np.asarray(task.train.labels)
    classes = len(jax.tree.leaves(task.text)[0])
    possible = classes >= 2 * FEWEST and task.published is None
    count = min(task.settings.folds, classes // FEWEST) if possible else 0
    if not count:
        return Folds(*(np.zeros((0, 1), np.int32) for _ in Folds._fields))
    size = classes // max(count, FEWEST)  # a single fold must not hold out all classes
    order = np.random.default_rng((task.seed, 17)).permutation(classes)
    held = np.sort(order[: count * size].reshape(count, size).astype(np.int32))
    kept = np.stack([np.setdiff1d(np.arange(classes, dtype=np.int32), one) for one in held])
    rng = np.random.default_rng((task.seed, 19))
    train = [np.flatnonzero(np.isin(labels, one)) for one in kept]
    test = [rng.permutation(np.flatnonzero(np.isin(labels, one)))[:TESTED] for one in held]
    sizes = np.sort(np.bincount(labels, minlength=classes))
    most, most_held = int(sizes[size:].sum()), min(int(sizes[-size:].sum()), TESTED)
    return Folds(kept, held, _padded(train, most), _padded(test, most_held))


def _padded(rows: list[np.ndarray], longest: int) -> np.ndarray:
    padded = [np.pad(row, (0, longest - len(row)), constant_values=-1) for row in rows]
    return np.stack(padded).astype(np.int32)


def fewest_samples(labels: np.ndarray, held: int) -> int:
    """Size of the smallest possible training set without `held` classes, the same for all seeds."""
    return int(np.sort(np.bincount(labels))[::-1][held:].sum())


def classes_of(text: Any, chosen: Int[Array, " c"]) -> Any:
    """The rows of some classes in each array of the text."""
    return jax.tree.map(lambda array: array[chosen], text)


def relabelled(samples: Samples, chosen: Int[Array, " c"], num_classes: int) -> Samples:
    """The samples with labels that index `chosen`; -1 for samples of other classes."""
    places = jnp.full(num_classes + 1, -1).at[chosen].set(jnp.arange(len(chosen)))
    return Samples(samples.tokens, places[samples.labels])  # padding (-1) reads the last entry


def shuffled(key: PRNGKeyArray, indices: Int[Array, " n"], count: int) -> Int[Array, " count"]:
    """A random selection of the indices without padding (-1), in random order."""
    ranks = jnp.where(indices >= 0, jax.random.uniform(key, indices.shape), 2.0)
    return indices[jnp.argsort(ranks)[:count]]


def held_out_accuracy(
    method: ZeroShotMethod, variables: Any, train: Samples, fold: Folds, text: Any
) -> Float[Array, ""]:
    """Accuracy in [0, 1] of a fold on its test samples, among its held-out classes.

    Args:
      train: training samples of all seen classes.
      fold: one fold, without the leading axis `K`.
      text: text of all seen classes.
    """
    num_classes = len(jax.tree.leaves(text)[0])
    tokens, labels = train.tokens[fold.test], train.labels[fold.test]
    real = Samples(tokens, jnp.where(fold.test >= 0, labels, -1))
    samples = relabelled(real, fold.held, num_classes)
    return validation_accuracy(method, variables, samples, classes_of(text, fold.held))
