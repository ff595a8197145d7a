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
    """The settings of a method that is trained.

    Attributes:
      epochs: the most; with `folds`, those are kept whose accuracy on held-out classes is highest.
      patience: epochs without such an accuracy, after which training ends.
      folds: parts of the seen classes that are held out in turn, as in cross-validation, while the
        model of all seen classes is trained beside; 0 trains for all epochs.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 256
    epochs: int = 300
    patience: int = 20
    folds: int = 4

    def __post_init__(self):
        check_at_least(0, folds=self.folds)
        check_at_least(1, batch_size=self.batch_size, epochs=self.epochs, patience=self.patience)


class Samples(NamedTuple):
    """Tokens with their labels, on the host or on the devices.

    Attributes:
      tokens: `[N, S, n]` of the store's type; on devices padded to a multiple of their number.
      labels: `[N]` positions in the text; -1 for padding.
    """

    tokens: Any
    labels: Any


@dataclass(frozen=True)
class MethodTask:
    """What stage 3 fits, on what.

    Attributes:
      train, val: on the host, perhaps on disk; labels are positions in `text`.
      text: of the seen classes, as the method takes it: `F` `[C, G, d]`, or `ClassText`.
      ids: names of the training clips.
      record: the configuration as JSON, kept with a step that is not finite.
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

    @property
    def batch_size(self) -> int:
        """Samples in a minibatch."""
        return min(self.settings.batch_size, len(self.train.labels))


def validation_accuracy(
    method: ZeroShotMethod, variables: Variables, val: Samples, text: Any
) -> Float[Array, ""]:
    """Share of the validation samples that are recognised; with `oracle`, the published one."""
    features = method.encode(variables, jnp.asarray(val.tokens, jnp.float32))
    candidates = method.bind(variables, text)
    if method.oracle is None:
        logits = method.score(variables, features, candidates)
    else:
        logits = method.oracle(variables, features, candidates, val.labels)
    real = val.labels >= 0
    return jnp.sum((logits.argmax(-1) == val.labels) & real) / jnp.maximum(real.sum(), 1)
