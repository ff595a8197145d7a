"""What evaluation reads of a configuration and of one trained run."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from data_pipelines import animation
from data_pipelines.corpus import Corpus
from data_pipelines.prepared import PreparedClips
from data_pipelines.protocols import Protocol
from data_pipelines.skeletons import Skeleton
from data_pipelines.sketches import Sketch
from dynapurls_jax.encoders.base import TrainedEncoder
from dynapurls_jax.registry import chosen_settings
from dynapurls_jax.zero_shot.base import Candidates, ClassText, Variables, ZeroShotMethod


@dataclass(frozen=True)
class Inputs:
    """What all runs of a configuration share.

    Attributes:
      clips: None where features are read from a folder and no encoder is trained.
      text: `F` of all classes of the corpus, in class id order.
      text_digest: hash of the texts and of their encoder.
      features: tokens that were read from a folder; None where an encoder makes them.
      sketches: the motion sketch of each class, None for one without; empty without descriptions.
    """

    config: ConfigDict
    corpus: Corpus
    clips: PreparedClips | None
    text: Float[np.ndarray, "C G d"]
    text_digest: str
    features: Float[np.ndarray, "N T V n"] | None = None
    sketches: tuple[Sketch | None, ...] = ()

    @property
    def sketches_digest(self) -> str:
        """Hash of the motion sketches and of the version of their animation."""
        text = json.dumps([animation.VERSION, self.sketches])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def skeleton(self) -> Skeleton:
        """The joints that tokens are of."""
        return self.corpus.skeleton if self.clips is None else self.clips.skeleton


@dataclass(frozen=True)
class TrainedRun:
    """One split and seed, ready to be evaluated.

    Attributes:
      method, variables: the zero-shot method and what was fitted.
      tokens: of every clip of the corpus, on the host and mostly on disk.
      token_shape: `(T', P, n)` of one clip.
      encoder: None where features are read from a folder.
      results: what the stages reported, by stage: "encoder", "method".
      sketch_tokens: of every class's animated sketch; None where the method does not take them.
    """

    inputs: Inputs
    split: str
    seed: int
    protocol: Protocol
    method: ZeroShotMethod
    variables: Variables
    tokens: Float[np.ndarray, "N S n"]
    token_shape: tuple[int, int, int]
    encoder: TrainedEncoder | None
    results: dict[str, Any]
    sketch_tokens: Float[np.ndarray, "C S n"] | None = None

    @property
    def config(self) -> ConfigDict:
        return self.inputs.config

    def features_of(self, indices: np.ndarray) -> Any:
        """The encoded features of some clips of the corpus, float32, on the device."""
        return self.method.encode(self.variables, jnp.asarray(self.tokens[indices], jnp.float32))

    def candidates_of(self, classes: np.ndarray) -> Candidates:
        """Some classes of the corpus as candidates.

        Args:
          classes: class ids, in the order of the candidates.
        """
        text = class_text(self.inputs.text, self.sketch_tokens, classes)
        return self.method.bind(self.variables, jax.tree.map(jnp.asarray, text))

    def labels_of(self, indices: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The true labels of some clips, as positions in `classes` (sorted class ids)."""
        return np.searchsorted(classes, self.inputs.corpus.labels[indices])


def class_text(
    text: Float[np.ndarray, "C G d"],
    sketch_tokens: Float[np.ndarray, "C S n"] | None,
    classes: np.ndarray,
) -> Float[np.ndarray, "c G d"] | ClassText:
    """What a method gets of some classes: their text, and their sketches where it takes them."""
    if sketch_tokens is None:
        return text[classes]
    return ClassText(text[classes], sketch_tokens[classes])


def method_title(config: ConfigDict) -> str:
    """The zero-shot method as reports name it: "ridge", "purls (label_free)"."""
    name = config.method.name
    query = chosen_settings(config.method).get("query")
    return f"{name} ({query})" if query else name
