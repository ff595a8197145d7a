"""Encodes the inputs of a model: clips to tokens, actions to classes."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.animation import SKELETON, animate, frames_for
from data_pipelines.skeletons import map_joints
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.registry import settings_of
from dynapurls_jax.serving.clip_tokens import ClipTokens
from dynapurls_jax.serving.model import Classes, Model, joined
from dynapurls_jax.text.encoders import TextEncoder, make_text_encoder
from dynapurls_jax.text.features import class_vector
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.text.words import encode_words, words_of

MOST_ACTIONS = 1000
Actions = Sequence[str] | Mapping[str, Any]


def checked_actions(actions: Actions) -> dict[str, dict[str, Any] | None]:
    """Action names to their texts; None for a name without texts.

    Args:
      actions: names or sentences; or a mapping from names to a sentence, or to texts for each
        granularity and optionally a "sketch".

    Raises:
      ValueError: there are no actions, too many, empty ones or duplicates.
    """
    if isinstance(actions, str):
        raise ValueError(f"actions: expected a list of names, got the text {actions!r}")
    names = [str(name).strip() for name in actions]
    if not 1 <= len(names) <= MOST_ACTIONS:
        raise ValueError(f"actions: expected 1 to {MOST_ACTIONS}, got {len(names)}")
    if "" in names:
        raise ValueError(f"actions: expected names, got an empty one at {names.index('') + 1}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"actions: expected different names, got {sorted(twice)[0]!r} twice")
    if not isinstance(actions, Mapping):
        return dict.fromkeys(names)
    given = zip(names, actions.values(), strict=True)
    return {name: None if texts is None else every_granularity(texts) for name, texts in given}


def every_granularity(texts: str | Mapping[str, Any]) -> dict[str, Any]:
    """Texts for each granularity; a single sentence is used for all."""
    return dict(texts) if isinstance(texts, Mapping) else dict.fromkeys(GRANULARITIES, texts)


class ModelInputs:
    """Encodes clips and actions for a model; the encoders are created on first use.

    Attributes:
      model: the model.
    """

    def __init__(self, model: Model):
        self.model = model

    def with_adapter(self, name: str) -> "ModelInputs":
        """The same encoders, for the model with another test-time method.

        Args:
          name: a registered name, or "module:attribute".

        Raises:
          ValueError: the method does not exist.
        """
        config = self.model.config.copy_and_resolve_references()
        config.adapter.name = name
        ADAPTERS.complete(config.adapter)
        other = copy(self)
        other.model = replace(self.model, config=config)
        return other

    @cached_property
    def clip_tokens(self) -> ClipTokens | None:
        """The encoder of clips; None if the model was trained on features."""
        return None if self.model.encoder is None else ClipTokens(self.model)

    def classes(self, actions: Actions) -> Classes:
        """Actions as classes; a name of the training without texts has the texts of the training.

        Raises:
          ValueError: see `checked_actions`; also for a wrong sketch, or if the text encoder cannot
            be loaded.
        """
        given, known = checked_actions(actions), self.model.classes
        return joined(
            [
                known.of((name,))
                if texts is None and name in known.names
                else self._new(name, texts)
                for name, texts in given.items()
            ]
        )

    def _new(self, name: str, texts: dict[str, Any] | None) -> Classes:
        """One class; the default text is the name."""
        texts = texts or every_granularity(name)
        text = class_vector(self._text_settings, self._text_encoder, name, texts)
        words = None
        if self.model.classes.words is not None:
            words = encode_words([words_of(name, texts)], self._text_encoder)
        return Classes((name,), text[None], self._sketch_tokens(name, texts), words)

    def _sketch_tokens(self, name: str, texts: dict) -> Float[np.ndarray, "1 S n"] | None:
        """Tokens of an animated sketch; NaN without one, None if the model uses no sketches."""
        model, record = self.model, texts.get("sketch")
        if model.classes.sketches is None:
            return None
        if record is None or self.clip_tokens is None:
            segments, points, width = model.token_shape
            return np.full((1, segments * points, width), np.nan, np.float32)
        data = model.config.data
        clip = animate(
            parse_sketch(record, name, "request"), frames_for(data.temporal_sampling, data.frames)
        )
        return self.clip_tokens(map_joints(clip[None], SKELETON, model.source))[None]

    @property
    def _text_settings(self) -> TextSettings:
        return settings_of(TextSettings, self.model.config.text, "text")

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        settings = self._text_settings
        if settings.encoder == "precomputed":
            raise ValueError("text.encoder=precomputed has no encoder for the texts of a new class")
        try:
            return make_text_encoder(settings)
        except (ImportError, OSError) as error:
            raise ValueError(f"the text encoder cannot be loaded: {error}") from error
