"""A self-contained trained model: everything that predictions need, without the training data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from data_pipelines.skeletons import Skeleton
from dynapurls_jax.adaptation.gated import Gate
from dynapurls_jax.encoders.base import TrainedEncoder
from dynapurls_jax.evaluation.trained_run import TrainedRun, class_text
from dynapurls_jax.training.checkpoints import tree_digest
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod


@dataclass(frozen=True)
class Classes:
    """The inputs of a method for some classes.

    Attributes:
      names: `C` names.
      text: text embeddings, unit rows.
      sketches: tokens of the animated motion sketches, NaN for a class without one; None if the
        method does not use sketches.
      words: unit vectors of a verb and a noun for each class; None if the method does not use
        them.
    """

    names: tuple[str, ...]
    text: Float[np.ndarray, "C G d"]
    sketches: Float[np.ndarray, "C S n"] | None = None
    words: Float[np.ndarray, "C 2 d"] | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the model's method takes of text, sketches and words, by name."""
        named = {"text": self.text, "sketches": self.sketches, "words": self.words}
        return {name: array for name, array in named.items() if array is not None}

    def of(self, names: tuple[str, ...]) -> "Classes":
        """The classes of these names, in this order.

        Raises:
          ValueError: a class does not exist.
        """
        if missing := [name for name in names if name not in self.names]:
            raise ValueError(f"no class {missing[0]!r}: expected one of {', '.join(self.names)}")
        found = [self.names.index(name) for name in names]
        return Classes(names, **{name: array[found] for name, array in self.arrays.items()})

    def joined(self, other: "Classes") -> "Classes":
        """These classes, followed by others of the same model."""
        return joined([self, other])


def joined(parts: Sequence[Classes]) -> Classes:
    """Classes of one model, one part after the other."""
    arrays = {
        name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays
    }
    return Classes(tuple(name for part in parts for name in part.names), **arrays)


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
      config: configuration of the training; its section `adapter` selects the test-time method.
      source: skeleton of input clips.
      skeleton: skeleton of the encoder.
      clip_shape: `(M, T)` of the encoder's input.
      token_shape: `(T', P, n)` of a clip.
      encoder: None if the model was trained on features.
      classes: the seen and unseen classes of the training.
      candidates: names of the default candidate classes.
      texts: digests of text encoder, texts, sketches and words, for the identity of a stream.
      seen: names of the classes with training clips.
      gate: gate between the seen classes and all other actions; None if it was not fitted.
      none_below: rejection threshold: a clip whose highest static logit is lower shows none of the
        actions; None if it was not fitted.
    """

    config: ConfigDict
    source: Skeleton
    skeleton: Skeleton
    clip_shape: tuple[int, int]
    token_shape: tuple[int, int, int]
    method: ZeroShotMethod
    variables: Variables
    encoder: TrainedEncoder | None
    classes: Classes
    candidates: tuple[str, ...]
    texts: dict[str, str | None]
    seed: int = 0
    seen: tuple[str, ...] = ()
    gate: Gate | None = None
    none_below: float | None = None

    def bind(self, classes: Classes) -> Candidates:
        """Classes as candidates, on the device."""
        described = class_text(np.arange(len(classes.names)), **classes.arrays)
        return self.method.bind(self.variables, jax.tree.map(jnp.asarray, described))

    @property
    def identity(self) -> dict[str, Any]:
        """The part of the model that the state of a stream depends on, as JSON values."""
        return {"weights": tree_digest(self.variables)} | self.texts


def model_of(run: TrainedRun, gate: Gate | None = None) -> Model:
    """The model of a run; its candidates are the unseen classes.

    Raises:
      ValueError: labels of unseen test clips chose its epoch (`fit.published_protocol`).
    """
    if run.config.fit.published_protocol:
        raise ValueError(
            "fit.published_protocol: labels of unseen test clips chose the epoch, so there is no "
            "model for predictions; train without it"
        )
    inputs = run.inputs
    names = inputs.corpus.class_names
    shape = (1, 1) if inputs.clips is None else inputs.clips.clips.shape[1:3]
    sketched = run.sketch_tokens is not None
    words = {} if run.words is None else {"words": inputs.words_digest}
    return Model(
        config=run.config,
        source=inputs.corpus.skeleton,
        skeleton=inputs.skeleton,
        clip_shape=(shape[0], shape[1]),
        token_shape=run.token_shape,
        method=run.method,
        variables=run.variables,
        encoder=run.encoder,
        classes=Classes(tuple(names), inputs.text, run.sketch_tokens, run.words),
        candidates=tuple(names[c] for c in run.protocol.unseen),
        texts={
            "texts": inputs.text_digest,
            "sketches": inputs.sketches_digest if sketched else None,
            **words,
        },
        seed=run.seed,
        seen=tuple(names[c] for c in run.protocol.seen),
        gate=gate,
    )
