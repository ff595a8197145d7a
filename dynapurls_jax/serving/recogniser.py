"""Actions from clips and sentences: a model, a text encoder, and any classes by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data_pipelines.clip_files import Clip, clip_from_array
from data_pipelines.conventions import Declared
from data_pipelines.formats.sample_stream import Request
from data_pipelines.layouts import COMMON
from data_pipelines.skeletons import map_joints
from dynapurls_jax.adaptation.api import Prediction
from dynapurls_jax.registry import settings_of
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model import Classes, Model
from dynapurls_jax.text.encoders import TextEncoder, make_text_encoder
from dynapurls_jax.text.features import class_vector
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.settings import TextSettings

MOST_ACTIONS = 1000
Actions = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Recognition:
    """What a clip shows.

    Attributes:
      labels: the actions, the most probable first.
      probabilities: of each, in that order; they add up to 1.
    """

    labels: tuple[str, ...]
    probabilities: Float[np.ndarray, " C"]

    @property
    def label(self) -> str:
        """The most probable action."""
        return self.labels[0]


def checked_actions(actions: Actions) -> dict[str, dict[str, Any]]:
    """Action names to their texts; a bare name is its own text.

    Args:
      actions: names or sentences; or names to a sentence, or to texts for each granularity.

    Raises:
      ValueError: none, too many, empty or equal ones.
    """
    if isinstance(actions, str):
        raise ValueError(f"actions: expected a list of names, got the text {actions!r}")
    texts = dict(actions) if isinstance(actions, Mapping) else None
    names = [str(name).strip() for name in actions]
    if not 1 <= len(names) <= MOST_ACTIONS:
        raise ValueError(f"actions: expected 1 to {MOST_ACTIONS}, got {len(names)}")
    if "" in names:
        raise ValueError(f"actions: expected names, got an empty one at {names.index('') + 1}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"actions: expected different names, got {sorted(twice)[0]!r} twice")
    found: dict[str, dict[str, Any]] = {}
    for name, key in zip(names, actions, strict=True):
        said = name if texts is None else texts[key]
        if not isinstance(said, Mapping):
            said = dict.fromkeys(GRANULARITIES, said)
        found[name] = dict(said)
    return found


class Recogniser:
    """A model that recognises any actions.

    Attributes:
      model: it may be shared; nothing here changes it.
    """

    def __init__(self, model: Model):
        if model.encoder is None:
            raise ValueError("this model takes tokens: expected one with an encoder of clips")
        self.model = model

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        return make_text_encoder(settings_of(TextSettings, self.model.config.text, "text"))

    def classes(self, actions: Actions) -> Classes:
        """Actions as the model takes them; names that it was trained with keep their texts.

        Raises:
          ValueError: see `checked_actions`.
          ModuleNotFoundError: the text encoder is missing; says how to get it.
        """
        known, given = self.model.classes, checked_actions(actions)
        settings = settings_of(TextSettings, self.model.config.text, "text")
        text: list[np.ndarray] = []
        sketches: list[np.ndarray | None] = []
        for name, texts in given.items():
            if name in known.names and not isinstance(actions, Mapping):
                one = known.of((name,))
                text.append(one.text[0])
                sketch = None if one.sketches is None else one.sketches[0]
            else:
                text.append(class_vector(settings, self._text_encoder, name, dict(texts)))
                sketch = None
            sketches.append(sketch)
        stacked = None
        if known.sketches is not None:
            none = np.full(known.sketches.shape[1:], np.nan, np.float32)
            stacked = np.stack([none if sketch is None else sketch for sketch in sketches])
        return Classes(tuple(given), np.stack(text), stacked)

    def predict(
        self,
        clip: np.ndarray,
        actions: Actions,
        skeleton: str | Mapping | None = None,
        **declared: Any,
    ) -> Recognition:
        """What one clip shows, without adaptation.

        Args:
          clip: `[T, V, 3]` or `[M, T, V, 3]` of any unit and frame; `[T, V, 2]` for flat ones.
          skeleton: see `data_pipelines.layouts.layout_of`.
          declared: `up`, `mirrored`, `metres`, `fps`, see `data_pipelines.conventions.Declared`.

        Raises:
          ValueError: the clip or the actions cannot be used; says what was expected and what came.
        """
        return self.stream(actions, "static")(clip, skeleton, **declared)

    def stream(
        self, actions: Actions, adapter: str | None = None, capacity: int = 64
    ) -> "ActionStream":
        """Clips one after the other, by which the model refines its answers.

        Args:
          adapter: the test-time method; the model's own by default.
          capacity: the most actions, with those that are added later.
        """
        model = self.model
        if adapter is not None:
            config = model.config.copy_and_resolve_references()
            config.adapter.name = adapter
            model = replace(model, config=config)
        classes = self.classes(actions)
        live = LiveStream(model, max(capacity, len(classes.names)), classes)
        return ActionStream(live)


class ActionStream:
    """A stream of clips; call it with a clip."""

    def __init__(self, live: LiveStream):
        self.live = live

    def __call__(
        self, clip: np.ndarray | Clip, skeleton: str | Mapping | None = None, **declared: Any
    ) -> Recognition:
        """What a clip shows; then the stream learns from it. See `Recogniser.predict`."""
        return self._recognition(self.live.predict(self._taken(clip, skeleton, declared)))

    def look(
        self, clip: np.ndarray | Clip, skeleton: str | Mapping | None = None, **declared: Any
    ) -> Recognition:
        """What a clip shows; the stream learns nothing from it. See `Recogniser.predict`."""
        return self._recognition(self.live.look(self._taken(clip, skeleton, declared)))

    def _taken(self, clip: np.ndarray | Clip, skeleton: Any, declared: dict) -> np.ndarray:
        """A clip in the joints of the model."""
        if not isinstance(clip, Clip):
            clip = clip_from_array(np.asarray(clip), skeleton, Declared(**declared))
        return model_clip(clip, self.live.model)

    def _recognition(self, prediction: Prediction) -> Recognition:
        logits = np.asarray(jax.nn.softmax(jnp.asarray(prediction.logits[0])))
        order = [slot for slot in np.argsort(-logits) if self.live.names[slot] is not None]
        return Recognition(tuple(str(self.live.names[slot]) for slot in order), logits[order])

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions to choose from."""
        return tuple(name for name in self.live.names if name is not None)

    @property
    def adapter(self) -> str:
        """The test-time method."""
        return self.live.model.config.adapter.name

    def add(self, action: str, texts: str | Mapping | None = None) -> None:
        """Adds an action.

        Args:
          texts: a sentence, or a text for each granularity; the name by default.

        Raises:
          ValueError: it is there already, or no place is left.
        """
        self._answer("add", action, texts)

    def remove(self, action: str) -> None:
        """Removes an action.

        Raises:
          ValueError: it is not there, or the last one.
        """
        self._answer("retire", action)

    def reset(self) -> None:
        """Undoes all adaptation."""
        self._answer("reset", True)

    def _answer(self, kind: str, value: Any, texts: Any = None) -> None:
        reply = self.live.answer(Request(0, kind, value, texts))
        if "error" in reply:
            raise ValueError(reply["error"])


def model_clip(clip: Clip, model: Model) -> Float[np.ndarray, "m t v 3"]:
    """A clip in the joints of a model, with the persons who move most if there are too many."""
    joints, most = clip.joints, model.clip_shape[0]
    if len(joints) > most:
        moved = np.abs(np.diff(joints, axis=1)).sum(axis=(1, 2, 3))
        joints = joints[np.sort(np.argsort(-moved)[:most])]
    return map_joints(joints, COMMON, model.source)
