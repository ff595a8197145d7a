"""The Python interface: recognises clips among actions that are given by names or sentences."""

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
    """Recognises clips among arbitrary actions.

    Attributes:
      model: the trained model, which is never changed.
    """

    def __init__(self, model: Model):
        if model.encoder is None:
            raise ValueError(
                "expected a model with an encoder, got one that was trained on features"
            )
        self.model = model

    @cached_property
    def _inputs(self) -> ModelInputs:
        """Encoders that the streams of all test-time methods share."""
        return ModelInputs(self.model)

    def predict(
        self,
        clip: np.ndarray,
        actions: Actions,
        skeleton: str | Mapping | None = None,
        **declared: Any,
    ) -> Recognition:
        """Recognises one clip without adaptation.

        Args:
          clip: `[T, V, 3]` or `[M, T, V, 3]` in any unit and coordinate frame; `[T, V, 2]` for 2D
            clips.
          actions: names or sentences; see `checked_actions` for other forms.
          skeleton: see `data_pipelines.layouts.layout_of`.
          declared: `up`, `mirrored`, `metres`, `fps`, see `data_pipelines.conventions.Declared`.

        Raises:
          ValueError: the clip or the actions cannot be used; the message has the expected and the
            actual value.
        """
        return self.stream(actions, "static")(clip, skeleton, **declared)

    def stream(
        self, actions: Actions, adapter: str | None = None, capacity: int = 64
    ) -> "ActionStream":
        """Starts a stream of clips with test-time adaptation.

        Args:
          actions: see `predict`.
          adapter: the test-time method, a name or "module:attribute"; by default that of the model.
          capacity: largest number of actions, among them those that are added later.

        Raises:
          ValueError: the actions are wrong, or the test-time method does not exist.
        """
        inputs = self._inputs
        if adapter is not None:
            inputs = inputs.with_adapter(adapter)
        return ActionStream(LiveStream(inputs, actions, capacity))


class ActionStream:
    """A stream of clips; calling it with a clip predicts and adapts."""

    def __init__(self, live: LiveStream):
        self.live = live

    def __call__(
        self, clip: np.ndarray | Clip, skeleton: str | Mapping | None = None, **declared: Any
    ) -> Recognition:
        """Recognises a clip, then adapts to it. See `Recogniser.predict`."""
        return self.live.predict(self._model_clip(clip, skeleton, declared))

    def look(
        self, clip: np.ndarray | Clip, skeleton: str | Mapping | None = None, **declared: Any
    ) -> Recognition:
        """Recognises a clip without adaptation to it. See `Recogniser.predict`."""
        return self.live.look(self._model_clip(clip, skeleton, declared))

    def recognise_all(
        self,
        clips: Iterable[np.ndarray | Clip],
        skeleton: str | Mapping | None = None,
        learn: bool = True,
        **declared: Any,
    ) -> Iterator[Recognition | ValueError]:
        """Recognises clips in batches, with the results of single calls.

        The next batch is prepared while the device computes.

        Args:
          clips, skeleton, declared: see `Recogniser.predict`.
          learn: adapt to each clip after its prediction; otherwise as `look`.

        Yields:
          For each clip, in order, its recognition, or the error if the clip cannot be used.
        """
        reads = (partial(self._model_clip, clip, skeleton, declared) for clip in clips)
        return recognise_all(self.live, reads, learn)

    def _model_clip(
        self, clip: np.ndarray | Clip, skeleton: Any, declared: dict
    ) -> Float[np.ndarray, "m t v 3"]:
        """A clip in metres, in the joints of the model."""
        if not isinstance(clip, Clip):
            clip = clip_from_array(np.asarray(clip), skeleton, Declared(**declared))
        return model_clip(clip, self.live.inputs.model)

    @property
    def actions(self) -> tuple[str, ...]:
        """The candidate actions."""
        return self.live.actions

    @property
    def adapter(self) -> str:
        """The name of the test-time method."""
        return self.live.inputs.model.config.adapter.name

    def add(self, action: str, texts: str | Mapping | None = None) -> None:
        """Adds an action.

        Args:
          texts: a sentence, or a text for each granularity; the name by default.

        Raises:
          ValueError: the action exists, or no slot is free.
        """
        self.live.add(action, texts)

    def remove(self, action: str) -> None:
        """Removes an action.

        Raises:
          ValueError: the action does not exist.
        """
        self.live.remove(action)

    def reset(self) -> None:
        """Undoes all adaptation."""
        self.live.reset()
