"""The universal model: the zero-shot method `lexicon`, fitted on many corpora."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from data_pipelines.animation import animate, frames_for
from data_pipelines.layouts import COMMON
from data_pipelines.lexicon import LexiconEntry, load_lexicon, mirrored
from data_pipelines.sketches import Sketch
from dynapurls_jax.registry import settings_of
from dynapurls_jax.text.encoders import TextEncoder, make_text_encoder
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.training.corpora import (
    CLIP_SHAPE,
    TEMPORAL_SAMPLING,
    EncodedCorpus,
    encoded,
    prepared,
    token_width,
)
from dynapurls_jax.zero_shot.base import Shapes, Variables
from dynapurls_jax.zero_shot.lexicon import squashed
from dynapurls_jax.zero_shot.lexicon_fit import ImaginedActions, corpus_means, fit_corpora
from dynapurls_jax.zero_shot.registry import METHODS, make_method

_LEAST = 1e-6  # added to standard deviations, against division by zero


@dataclass(frozen=True)
class ImaginedLexicon:
    """The lexicon of motion sketches, animated and encoded once.

    Attributes:
      entries: the actions of the lexicon.
      encoder: text encoder of their names.
    """

    entries: tuple[LexiconEntry, ...]
    encoder: TextEncoder

    @cached_property
    def names(self) -> list[str]:
        return [name for entry in self.entries for name in entry.names]

    @cached_property
    def _text(self) -> np.ndarray:
        return self.encoder.encode(self.names)

    @cached_property
    def _features(self) -> tuple[np.ndarray, np.ndarray]:
        sketches = [entry.sketch for entry in self.entries]
        return _features(sketches), _features([mirrored(sketch) for sketch in sketches])

    def actions(self, without: Sequence[str] = ()) -> ImaginedActions:
        """All actions; those with a name in `without` (case-insensitive) have zero text rows.

        Shapes do not depend on `without`.
        """
        unwanted = {name.lower() for name in without}
        kept = [not unwanted & {name.lower() for name in e.names} for e in self.entries]
        sizes = [len(entry.names) for entry in self.entries]
        features, images = self._features
        return ImaginedActions(
            text=jnp.asarray(self._text * np.repeat(kept, sizes)[:, None]),
            action=jnp.asarray(np.repeat(np.arange(len(sizes)), sizes)),
            features=jnp.asarray(features),
            mirrored=jnp.asarray(images),
        )


class UniversalFit:
    """Fits the method of a configuration on a choice of corpora.

    Attributes:
      config: a configuration as in `configs/universal.py`.
      encoder: the text encoder.
      lexicon: the animated lexicon.
      shapes: shapes of the method's inputs.
      method: the zero-shot method.
    """

    def __init__(self, config: ConfigDict):
        self.config = config
        self._rows: dict[tuple[str, ...], np.ndarray] = {}
        self.encoder = make_text_encoder(settings_of(TextSettings, config.text, "text"))
        self.lexicon = ImaginedLexicon(load_lexicon(), self.encoder)
        self.shapes = Shapes(COMMON, (1, 1, token_width()), self.rows(("walk",)).shape[1])
        self.method = make_method(config.method, self.shapes)

    def rows(self, names: tuple[str, ...]) -> Float[np.ndarray, "C d"]:
        """Text embeddings of class names; cached, as corpora are fitted many times."""
        if names not in self._rows:
            self._rows[names] = self.encoder.encode(list(names))
        return self._rows[names]

    def fit(self, corpora: Sequence[EncodedCorpus], without: Sequence[str] = ()) -> Variables:
        """The variables of the method, in half precision.

        Indices of actions, and the mean and deviation of features, keep their types.

        Args:
          without: names of actions to exclude from the lexicon, see `ImaginedLexicon.actions`.
        """
        settings = METHODS.settings(self.config.method)
        mean, deviation = standard_of(corpora)
        squash = partial(squashed, settings, mean=mean, deviation=deviation)
        means = []
        for corpus in corpora:
            features = np.asarray(squash(jnp.asarray(_flat(corpus))))
            rows = self.rows(corpus.class_names)
            means.append(corpus_means(features, corpus.labels, rows, settings.most_clips))
        imagined = self.lexicon.actions(without)
        imagined = imagined._replace(
            features=squash(imagined.features), mirrored=squash(imagined.mirrored)
        )
        fitted = jax.jit(fit_corpora, static_argnums=0)(settings, means, imagined)
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), fitted)
        half["lexicon"]["action"] = fitted["lexicon"]["action"]
        return half | {"visual": fitted["visual"] | {"mean": mean, "deviation": deviation}}


def standard_of(
    corpora: Sequence[EncodedCorpus],
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Mean and standard deviation of features, averaged over corpora with equal weights.

    Variances are within corpora.
    """
    mean = np.mean([_flat(c).mean(axis=0) for c in corpora], axis=0)
    variance = np.mean([_flat(c).var(axis=0) for c in corpora], axis=0)
    return jnp.asarray(mean), jnp.asarray(np.sqrt(variance) + _LEAST)


def _flat(corpus: EncodedCorpus) -> Float[np.ndarray, "N D"]:
    return corpus.tokens.reshape(len(corpus.tokens), -1).astype(np.float32)


def _features(sketches: Sequence[Sketch]) -> Float[np.ndarray, "A D"]:
    """Encoder features of animated sketches."""
    frames = frames_for(TEMPORAL_SAMPLING, CLIP_SHAPE[1])
    clips = [prepared(animate(sketch, frames)[None], COMMON) for sketch in sketches]
    return encoded(np.stack(clips)).reshape(len(clips), -1)
