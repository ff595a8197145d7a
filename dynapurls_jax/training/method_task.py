"""The task of stage 3: a zero-shot method, its settings, and the samples of the seen classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dynapurls_jax.registry import check_at_least
from dynapurls_jax.zero_shot.base import Shapes, Variables, ZeroShotMethod


@dataclass(frozen=True)
class FitSettings:
    """The settings of stage 3 for methods with a loss.

    Attributes:
      epochs: largest number of epochs; with `folds`, the epoch with the highest accuracy on
        held-out classes is kept.
      patience: number of epochs without a higher accuracy after which training stops.
      folds: number of folds of the cross-validation over seen classes; 0 trains for all epochs.
      published_protocol: ORACLE, as most published code: of all epochs, the one with the highest
        accuracy on the unseen test clips is kept.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 256
    epochs: int = 300
    patience: int = 20
    folds: int = 4
    published_protocol: bool = False

    def __post_init__(self):
        check_at_least(0, folds=self.folds)
        check_at_least(1, batch_size=self.batch_size, epochs=self.epochs, patience=self.patience)


class Samples(NamedTuple):
    """Tokens with their labels, on the host or on the devices.

    Attributes:
      tokens: `[N, S, n]` of the token store's dtype; on devices, `N` is padded to a multiple of
        their number.
      labels: `[N]` class indices into the text; -1 for padding.
    """

    tokens: Any
    labels: Any


@dataclass(frozen=True)
class MethodTask:
    """The inputs of stage 3: a method, its settings and its samples.

    Attributes:
      shapes: shapes of the method's inputs.
      train, val: on the host, memory-mapped or in memory; labels are class indices into `text`.
      text: text of the seen classes: `F` `[C, G, d]`, or `ClassText` for methods with sketches.
      ids: names of the training clips.
      published: unseen test clips and their text, which choose the epoch in the published protocol;
        None otherwise.
      record: the configuration as JSON, for the report of a non-finite step.
    """

    method: ZeroShotMethod
    settings: FitSettings
    shapes: Shapes
    train: Samples
    val: Samples
    text: Any
    ids: Sequence[str]
    seed: int
    record: dict
    published: tuple[Samples, Any] | None = None

    @property
    def batch_size(self) -> int:
        """Samples in a minibatch."""
        return min(self.settings.batch_size, len(self.train.labels))


def validation_accuracy(
    method: ZeroShotMethod, variables: Variables, val: Samples, text: Any
) -> Float[Array, ""]:
    """Accuracy in [0, 1] on validation samples; by the `oracle` scores of a method that has them.

    Args:
      text: text of the candidate classes, indexed by `val.labels`.
    """
    features = method.encode(variables, jnp.asarray(val.tokens, jnp.float32))
    candidates = method.bind(variables, text)
    if method.oracle is None:
        logits = method.score(variables, features, candidates)
    else:
        logits = method.oracle(variables, features, candidates, val.labels)
    real = val.labels >= 0
    return jnp.sum((logits.argmax(-1) == val.labels) & real) / jnp.maximum(real.sum(), 1)
