"""A trained model that stands alone: what predictions need, without the data of the training."""

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
    """Classes as a model's method takes them.

    Attributes:
      names: `C` names.
      text: unit rows.
      sketches: tokens of the classes' animated motion sketches, NaN for a class without one; None
        where the method does not take them.
    """

    names: tuple[str, ...]
    text: Float[np.ndarray, "C G d"]
    sketches: Float[np.ndarray, "C S n"] | None = None

    def of(self, names: tuple[str, ...]) -> "Classes":
        """Some of them, in another order.

        Raises:
          ValueError: there is no such class.
        """
        if missing := [name for name in names if name not in self.names]:
            raise ValueError(f"no class {missing[0]!r}: expected one of {', '.join(self.names)}")
        found = [self.names.index(name) for name in names]
        sketches = None if self.sketches is None else self.sketches[found]
        return Classes(names, self.text[found], sketches)

    def joined(self, other: "Classes") -> "Classes":
        """These, then others."""
        sketches = None
        if self.sketches is not None and other.sketches is not None:
            sketches = np.concatenate([self.sketches, other.sketches])
        text = np.concatenate([self.text, other.text])
        return Classes(self.names + other.names, text, sketches)


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
      config: that it was trained with; its section `adapter` says which test-time method runs.
      source: joints of the clips that come.
      skeleton: joints that the encoder takes.
      clip_shape: `(M, T)` of the clips that the encoder takes.
      token_shape: `(T', P, n)`.
      encoder: None where tokens come in place of clips.
      classes: that the training knew, seen and unseen.
      candidates: names of the classes to choose from, where nothing else is said.
      texts: digests of text encoder, texts and sketches, for the identity of a stream.
      seen: names of the classes that the training had clips of.
      gate: between the seen classes and all other actions, if it was fitted.
      none_below: the best static logit below which a clip shows none of the actions; None: unknown.
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
        described = class_text(classes.text, classes.sketches, np.arange(len(classes.names)))
        return self.method.bind(self.variables, jax.tree.map(jnp.asarray, described))

    @property
    def identity(self) -> dict[str, Any]:
        """What a stream's state depends on."""
        return {"weights": tree_digest(self.variables)} | self.texts


def model_of(run: TrainedRun, gate: Gate | None = None) -> Model:
    """The model of a run; its candidates are the unseen classes."""
    inputs = run.inputs
    names = inputs.corpus.class_names
    shape = (1, 1) if inputs.clips is None else inputs.clips.clips.shape[1:3]
    sketched = run.sketch_tokens is not None
    return Model(
        config=run.config,
        source=inputs.corpus.skeleton,
        skeleton=inputs.skeleton,
        clip_shape=(shape[0], shape[1]),
        token_shape=run.token_shape,
        method=run.method,
        variables=run.variables,
        encoder=run.encoder,
        classes=Classes(tuple(names), inputs.text, run.sketch_tokens),
        candidates=tuple(names[c] for c in run.protocol.unseen),
        texts={
            "texts": inputs.text_digest,
            "sketches": inputs.sketches_digest if sketched else None,
        },
        seed=run.seed,
        seen=tuple(names[c] for c in run.protocol.seen),
        gate=gate,
    )
