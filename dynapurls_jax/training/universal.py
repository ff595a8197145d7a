"""The universal model: the zero-shot method `lexicon`, fitted on the classes of many corpora."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data_pipelines.animation import animate, frames_for
from data_pipelines.layouts import COMMON
from data_pipelines.lexicon import LexiconEntry, mirrored
from data_pipelines.sketches import Sketch
from dynapurls_jax.text.encoders import TextEncoder
from dynapurls_jax.training.corpora import (
    CLIP_SHAPE,
    TEMPORAL_SAMPLING,
    EncodedCorpus,
    encoded,
    prepared,
)
from dynapurls_jax.zero_shot.base import Variables
from dynapurls_jax.zero_shot.lexicon import (
    CorpusMeans,
    ImaginedActions,
    LexiconSettings,
    corpus_means,
    fit_corpora,
)


@dataclass(frozen=True)
class ImaginedLexicon:
    """The lexicon, animated and encoded once.

    Attributes:
      entries: its actions.
      encoder: of their names.
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
        """All actions; those of which a name is one of `without`, case aside, count for nothing.

        Shapes do not depend on it.
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


def fit_universal(
    settings: LexiconSettings, corpora: Sequence[CorpusMeans], imagined: ImaginedActions
) -> Variables:
    """The arrays of the method, in half precision where no accuracy depends on it."""
    fitted = jax.jit(fit_corpora, static_argnums=0)(settings, corpora, imagined)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), fitted)
    whole = {"visual": fitted["visual"]}
    half["lexicon"]["action"] = fitted["lexicon"]["action"]
    return half | whole


def means_of(
    corpus: EncodedCorpus, text: Float[np.ndarray, "C d"], settings: LexiconSettings
) -> CorpusMeans:
    """What the fit reads of a corpus."""
    flat = corpus.tokens.reshape(len(corpus.tokens), -1)
    return corpus_means(flat, corpus.labels, text, settings.most_clips)


def _features(sketches: Sequence[Sketch]) -> Float[np.ndarray, "A D"]:
    """The encoder's features of animated sketches."""
    frames = frames_for(TEMPORAL_SAMPLING, CLIP_SHAPE[1])
    clips = [prepared(animate(sketch, frames)[None], COMMON) for sketch in sketches]
    return encoded(np.stack(clips)).reshape(len(clips), -1)
