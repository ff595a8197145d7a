"""The inputs and the results of a training run, as evaluation reads them."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
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
from dynapurls_jax.registry import chosen_settings, settings_of
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.text.words import class_words, word_features
from dynapurls_jax.zero_shot.base import Candidates, ClassText, Variables, ZeroShotMethod
from dynapurls_jax.zero_shot.registry import METHODS


@dataclass(frozen=True)
class Inputs:
    """The inputs that all runs of a configuration share.

    Attributes:
      clips: prepared clips; None if features are read from a folder.
      text: `F` of all classes of the corpus, in the order of class ids.
      text_digest: hash of the texts and of the text encoder.
      features: tokens from a folder of features; None if an encoder computes them.
      sketches: the motion sketch of each class or None; empty without descriptions.
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
    def words_digest(self) -> str:
        """Hash of the verbs and nouns; their encoder is in `text_digest`."""
        words = class_words(settings_of(TextSettings, self.config.text, "text"), self.corpus)
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]

    @cached_property
    def words(self) -> Float[np.ndarray, "C 2 d"]:
        """Unit vectors of the verb and the noun of each class.

        Raises:
          ValueError, DataError: see `text.words.word_features`.
        """
        return word_features(settings_of(TextSettings, self.config.text, "text"), self.corpus)

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the tokens."""
        return self.corpus.skeleton if self.clips is None else self.clips.skeleton


@dataclass(frozen=True)
class TrainedRun:
    """The trained models of one split and seed.

    Attributes:
      method, variables: the zero-shot method and its fitted variables.
      tokens: tokens of every clip of the corpus, memory-mapped or in memory.
      token_shape: `(T', P, n)` of one clip.
      encoder: None if features are read from a folder.
      results: results of the stages "encoder" and "method".
      sketch_tokens: tokens of the animated sketch of every class; None if the method does not use
        sketches.
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

    @property
    def words(self) -> Float[np.ndarray, "C 2 d"] | None:
        """Vectors of every class's verb and noun; None where the method does not take them."""
        return self.inputs.words if METHODS.entry(self.config.method.name).words else None

    def features_of(self, indices: np.ndarray) -> Any:
        """The method's features of some clips, float32, on the device.

        Args:
          indices: `[B]` indices of the clips in the corpus.
        """
        return self.method.encode(self.variables, jnp.asarray(self.tokens[indices], jnp.float32))

    def candidates_of(self, classes: np.ndarray) -> Candidates:
        """Some classes of the corpus as candidates.

        Args:
          classes: class ids, in the order of the candidates.
        """
        text = class_text(classes, self.inputs.text, self.sketch_tokens, self.words)
        return self.method.bind(self.variables, jax.tree.map(jnp.asarray, text))

    def labels_of(self, indices: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The true labels `[B]` of some clips, as indices into `classes` (sorted class ids)."""
        return np.searchsorted(classes, self.inputs.corpus.labels[indices])


def class_text(
    classes: np.ndarray,
    text: Float[np.ndarray, "C G d"],
    sketches: Float[np.ndarray, "C S n"] | None = None,
    words: Float[np.ndarray, "C 2 d"] | None = None,
) -> Float[np.ndarray, "c G d"] | ClassText:
    """The text of some classes; `ClassText` with sketch tokens or words if these are given.

    Args:
      classes: `[c]` class ids.
    """
    if sketches is None and words is None:
        return text[classes]
    return jax.tree.map(lambda array: array[classes], ClassText(text, sketches, words))


def method_title(config: ConfigDict) -> str:
    """The zero-shot method as named in reports: "ridge", "purls (label_free)"."""
    name = config.method.name
    query = chosen_settings(config.method).get("query")
    return f"{name} ({query})" if query else name
