"""A trained model that answers requests one by one, without an end."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import FrozenConfigDict

from data_pipelines.animation import SKELETON, animate, frames_for
from data_pipelines.formats.sample_stream import Request
from data_pipelines.skeletons import map_joints
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.adaptation.api import Prediction, State
from dynapurls_jax.adaptation.class_slots import add_class, reset, retire_class, with_capacity
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.encoders.base import TOKEN_DTYPE
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.evaluation.tasks import StreamSetup
from dynapurls_jax.registry import settings_of
from dynapurls_jax.serving.clip_tokens import ClipTokens
from dynapurls_jax.serving.model import Classes, Model
from dynapurls_jax.text.encoders import TextEncoder, make_text_encoder
from dynapurls_jax.text.features import class_vector
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.settings import TextSettings


class LiveStream:
    """The state of a stream, the names of its slots, and the answers to requests.

    The configuration's section `adapter` says which test-time method runs. The stream has no end,
    so no rate is annealed.

    Attributes:
      model: that answers.
      state: of the test-time method.
      names: of the classes, one for each slot; None for a free one.
      identity: what both depend on, JSON-able.
    """

    def __init__(self, model: Model, capacity: int | None = None, classes: Classes | None = None):
        """Compiles everything that the first sample needs.

        Args:
          capacity: number of class slots; as many as there are classes by default.
          classes: to choose from; the model's candidates by default.

        Raises:
          ValueError: more classes than capacity, or a test-time method that cannot run.
        """
        self.model = model
        # None where tokens come in place of clips.
        self._clip_tokens = None if model.encoder is None else ClipTokens(model)
        if classes is None:
            classes = model.classes.of(model.candidates)
        names = classes.names
        candidates, active = with_capacity(
            model.bind(classes), len(names) if capacity is None else capacity
        )
        self.names: list[str | None] = [*names, *[None] * (len(active) - len(names))]
        segments, points, width = model.token_shape
        self._token_shape = (segments * points, width)
        one = self._encode(np.zeros(self._token_shape, np.float32))
        section = model.config.adapter
        settings = settings_of(EvalSettings, model.config.eval, "eval")
        setup = StreamSetup(model.method, FrozenConfigDict(section), settings)
        self._adapter = setup.adapter(setup.method(model.variables, one, samples=None))
        state = self._adapter.init(candidates, active, jax.random.key(model.seed))
        # A step donates the state: its buffers must not be shared with anything else.
        self.state: State = jax.tree.map(jnp.copy, state)
        step = jax.jit(self._adapter.step, donate_argnums=0)
        self._step = step.lower(self.state, one).compile()  # the first sample must not wait for it
        self.identity = {
            "adapter": section.name,
            "update_before_predict": setup.settings.update_before_predict,
            "settings": asdict(ADAPTERS.settings(section)),
            "capacity": len(active),
        } | model.identity

    def answer(self, request: Request) -> dict[str, Any]:
        """The answer to a request; a bad request changes nothing.

        Returns:
          `line`, `id` if the request has one, and one of: `class`, `confidence`, `adapted` and
          `latency_ms`; `skipped`; `added` or `retired` with the class; `reset`; `error`.
        """
        reply: dict[str, Any] = {"line": request.line}
        if request.id is not None:
            reply["id"] = request.id
        start = time.perf_counter()
        try:
            reply |= self._handle(request)
        except ValueError as error:
            reply |= {"error": str(error)}
        if "class" in reply:
            reply["latency_ms"] = round(1e3 * (time.perf_counter() - start), 3)
        return reply

    def _handle(self, request: Request) -> dict[str, Any]:
        if request.kind == "bad":
            return {"error": request.value}
        if request.kind == "add":
            return self._add(request.value, request.texts)
        if request.kind == "retire":
            slot = self._slot(request.value)
            self.state = retire_class(self._adapter, self.state, slot)
            self.names[slot] = None
            return {"retired": request.value}
        if request.kind == "reset":
            # Copied: a fresh state shares buffers, and a step donates them.
            self.state = jax.tree.map(jnp.copy, reset(self._adapter, self.state))
            return {"reset": True}
        return self._described(self._predict(self._tokens(request)))

    def _add(self, name: str, texts: dict | str | None) -> dict[str, Any]:
        if name in self.names:
            raise ValueError(f"class {name!r} exists already")
        if texts is None or isinstance(texts, str):  # one sentence says it all
            texts = dict.fromkeys(GRANULARITIES, texts or name)
        text = class_vector(self._text_settings, self._text_encoder, name, texts)[None]
        candidates = self.model.bind(Classes((name,), text, self._sketch_tokens(name, texts)))
        self.state, slot = add_class(self._adapter, self.state, candidates.classes[0])
        self.names[slot] = name
        return {"added": name}

    def _sketch_tokens(self, name: str, texts: dict | None) -> Float[np.ndarray, "1 S n"] | None:
        """Tokens of a new class's animated sketch; NaN without one, None if none are taken."""
        model, record = self.model, (texts or {}).get("sketch")
        if model.classes.sketches is None:
            return None
        if record is None or self._clip_tokens is None:
            return np.full((1, *self._token_shape), np.nan, np.float32)
        data = model.config.data
        clip = animate(
            parse_sketch(record, name, "request"), frames_for(data.temporal_sampling, data.frames)
        )
        return self._clip_tokens(map_joints(clip[None], SKELETON, model.source))[None]

    @property
    def _text_settings(self) -> TextSettings:
        return settings_of(TextSettings, self.model.config.text, "text")

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        """Loaded when the first class is added.

        Raises:
          ValueError: there is none, or its weights cannot be loaded.
        """
        settings = self._text_settings
        if settings.encoder == "precomputed":
            raise ValueError("text.encoder=precomputed has no encoder for the texts of a new class")
        try:
            return make_text_encoder(settings)
        except (ImportError, OSError) as error:
            raise ValueError(f"the text encoder cannot be loaded: {error}") from error

    def _slot(self, name: str) -> int:
        if name not in self.names:
            names = ", ".join(repr(known) for known in self.names if known)
            raise ValueError(f"no class {name!r}: expected one of {names}")
        return self.names.index(name)

    def _tokens(self, request: Request) -> Float[np.ndarray, "S n"]:
        """The tokens of a clip, or those of the request, rounded as in the store of an evaluation.

        Raises:
          ValueError: another shape than the model was trained with.
        """
        tokens, shape = request.value, self._token_shape
        if request.kind == "clip":
            if self._clip_tokens is None:
                raise ValueError("this model was trained on features: expected tokens, got a clip")
            tokens = self._clip_tokens(tokens)
        if tokens.shape != shape:
            raise ValueError(f"tokens: expected {list(shape)}, got {list(tokens.shape)}")
        return tokens if self._clip_tokens is None else tokens.astype(TOKEN_DTYPE)

    def _encode(self, tokens: Float[np.ndarray, "S n"]) -> Any:
        """Features of one sample, leaves `[1, ...]`."""
        one = jnp.asarray(tokens, jnp.float32)[None]
        return self.model.method.encode(self.model.variables, one)

    def predict(self, clip: Float[np.ndarray, "m t v 3"]) -> Prediction:
        """The prediction for a clip in the model's source joints; then the stream learns from it.

        Raises:
          ValueError: the model takes no clips, or not this one.
        """
        return self._predict(self._tokens(Request(0, "clip", clip)))

    def look(self, clip: Float[np.ndarray, "m t v 3"]) -> Prediction:
        """The prediction for a clip, from which the stream learns nothing.

        Raises:
          ValueError: the model takes no clips, or not this one.
        """
        features = self._encode(self._tokens(Request(0, "clip", clip)))
        return jax.device_get(self._glance(self.state, features))

    @cached_property
    def _glance(self) -> Callable[[State, Any], Prediction]:
        """A step whose state is dropped; it leaves the state's buffers alone."""
        return jax.jit(lambda state, features: self._adapter.step(state, features)[1])

    def _predict(self, tokens: Float[np.ndarray, "S n"]) -> Prediction:
        """On the host."""
        self.state, prediction = self._step(self.state, self._encode(tokens))
        return jax.device_get(prediction)  # no program for each item that is read

    def _described(self, prediction: Prediction) -> dict[str, Any]:
        if bool(prediction.skipped[0]):
            return {"class": None, "skipped": "not finite"}
        return {
            "class": self.names[int(prediction.label[0])],
            "confidence": round(float(prediction.confidence[0]), 6),
            "adapted": bool(prediction.adapted[0]),
        }
