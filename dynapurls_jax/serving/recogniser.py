"""Actions from clips and sentences: a model, a text encoder, and any classes by their names."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.clip_files import Clip, clip_from_array
from data_pipelines.conventions import Declared
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model import Model
from dynapurls_jax.serving.model_inputs import Actions, ModelInputs
from dynapurls_jax.serving.pipeline import recognise_all
from dynapurls_jax.serving.recognition import Recognition
from dynapurls_jax.serving.sensor import model_clip


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
    def _inputs(self) -> ModelInputs:
        """Shared by the streams of all test-time methods."""
        return ModelInputs(self.model)

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
          adapter: the test-time method, a name or "module:attribute"; the model's own by default.
          capacity: the most actions, with those that are added later.
        """
        inputs = self._inputs
        if adapter is not None:
            inputs = inputs.with_adapter(adapter)
        return ActionStream(LiveStream(inputs, actions, capacity))


class ActionStream:
    """A stream of clips; call it with a clip."""

    def __init__(self, live: LiveStream):
        self.live = live

    def __call__(
        self, clip: np.ndarray | Clip, skeleton: str | Mapping | None = None, **declared: Any
    ) -> Recognition:
        """What a clip shows; then the stream learns from it. See `Recogniser.predict`."""
        return self.live.predict(self._taken(clip, skeleton, declared))

    def look(
        self, clip: np.ndarray | Clip, skeleton: str | Mapping | None = None, **declared: Any
    ) -> Recognition:
        """What a clip shows; the stream learns nothing from it. See `Recogniser.predict`."""
        return self.live.look(self._taken(clip, skeleton, declared))

    def recognise_all(
        self,
        clips: Iterable[np.ndarray | Clip],
        skeleton: str | Mapping | None = None,
        learn: bool = True,
        **declared: Any,
    ) -> Iterator[Recognition | ValueError]:
        """Calls the stream with each clip, or looks, in batches.

        The device works on one batch while the next one is prepared.

        Args:
          clips, skeleton, declared: see `Recogniser.predict`.
          learn: from each clip, after its answer.

        Yields:
          For each clip what it shows, or why the model cannot use it.
        """
        reads = (partial(self._taken, clip, skeleton, declared) for clip in clips)
        return recognise_all(self.live, reads, learn)

    def _taken(
        self, clip: np.ndarray | Clip, skeleton: Any, declared: dict
    ) -> Float[np.ndarray, "m t v 3"]:
        """A clip in the joints of the model."""
        if not isinstance(clip, Clip):
            clip = clip_from_array(np.asarray(clip), skeleton, Declared(**declared))
        return model_clip(clip, self.live.inputs.model)

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions to choose from."""
        return self.live.actions

    @property
    def adapter(self) -> str:
        """The test-time method."""
        return self.live.inputs.model.config.adapter.name

    def add(self, action: str, texts: str | Mapping | None = None) -> None:
        """Adds an action.

        Args:
          texts: a sentence, or a text for each granularity; the name by default.

        Raises:
          ValueError: it is there already, or no place is left.
        """
        self.live.add(action, texts)

    def remove(self, action: str) -> None:
        """Removes an action.

        Raises:
          ValueError: it is not there, or the last one.
        """
        self.live.remove(action)

    def reset(self) -> None:
        """Undoes all adaptation."""
        self.live.reset()
