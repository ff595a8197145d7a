"""Online recognition of an unlimited stream of clips, with test-time adaptation."""

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from ml_collections import FrozenConfigDict

from dynapurls_jax.adaptation.api import Adapter, State, run_stream
from dynapurls_jax.adaptation.class_slots import add_class, reset, retire_class, with_capacity
from dynapurls_jax.adaptation.gated import gated
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.encoders.base import TOKEN_DTYPE
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.evaluation.tasks import StreamSetup
from dynapurls_jax.registry import settings_of
from dynapurls_jax.serving.clip_tokens import ClipTokens
from dynapurls_jax.serving.model import Classes
from dynapurls_jax.serving.model_inputs import Actions, ModelInputs
from dynapurls_jax.serving.recognition import Found, Recognition, recognitions


class LiveStream:
    """The state of a stream, and the names of its slots.

    The section `adapter` of the configuration selects the test-time method. The stream is
    unlimited, so no learning rate is annealed.

    Attributes:
      inputs: the encoders of clips and actions.
      state: state of the test-time method.
      names: action of each slot; None for a free slot.
      identity: everything that the state depends on, as JSON values.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        actions: Actions | None = None,
        capacity: int = 0,
        gate: bool = False,
    ):
        """Compiles all programs that the first sample needs.

        Args:
          actions: the candidate actions; by default the model's candidates, and with a gate also
            its seen classes.
          capacity: least number of slots; each action has one.
          gate: use the model's gate between its seen classes and all other actions.

        Raises:
          ValueError: the actions are wrong, the test-time method does not work with the model, or
            the model has no gate.
        """
        self.inputs, model = inputs, inputs.model
        inputs.clip_tokens  # noqa: B018  compiles now, so that the first clip does not wait
        # With a gate each seen class has a slot, and slots do not change sides.
        self._seen = model.seen if gate else ()
        classes = self._start(actions)
        candidates, active = with_capacity(model.bind(classes), max(capacity, len(classes.names)))
        self.names: list[str | None] = [*classes.names]
        self.names += [None] * (len(active) - len(classes.names))
        one = self._encode(np.zeros(self._token_shape, np.float32))
        self._adapter = self._make_adapter(one, gate)
        state = self._adapter.init(candidates, active, jax.random.key(model.seed))
        # A step donates the state, whose buffers must therefore not be shared.
        self.state: State = jax.tree.map(jnp.copy, state)
        step = jax.jit(self._stepped, donate_argnums=0)
        self._step = step.lower(self.state, one).compile()  # so that the first sample does not wait
        for name in set(self._seen) - set(map(str.strip, actions or self._seen)):
            self.remove(name)
        section = model.config.adapter
        self.identity = {
            "adapter": section.name,
            "update_before_predict": model.config.eval.update_before_predict,
            "settings": asdict(ADAPTERS.settings(section)),
            "capacity": len(active),
            "gate": gate,
        } | model.identity

    def _make_adapter(self, features: Any, gate: bool) -> Adapter:
        """The test-time method, with a gate if requested.

        Args:
          features: features of one sample.
        """
        model = self.inputs.model
        settings = settings_of(EvalSettings, model.config.eval, "eval")
        setup = StreamSetup(model.method, FrozenConfigDict(model.config.adapter), settings)
        method = setup.method(model.variables, features, samples=None)
        if gate:
            if model.gate is None:
                raise ValueError(
                    "this model has no gate between seen and unseen classes: train the split "
                    "pseudo-<split>-0, too, or omit --gate"
                )
            seen = range(len(self._seen))
            method = gated(model.method, model.variables, model.gate, method, method, seen)
        return setup.adapter(method)

    def _start(self, actions: Actions | None) -> Classes:
        """The classes of the first slots: with a gate all seen classes, then the actions."""
        chosen = self.inputs.classes(actions or self.inputs.model.candidates)
        if not self._seen:
            return chosen
        others = tuple(name for name in chosen.names if name not in self._seen)
        seen = self.inputs.model.classes.of(self._seen)
        return seen.joined(chosen.of(others)) if others else seen

    @property
    def actions(self) -> tuple[str, ...]:
        """The candidate actions."""
        return tuple(name for name in self.names if name is not None)

    def predict(self, clip: Float[np.ndarray, "m t v 3"]) -> Recognition:
        """Predicts a clip, then adapts to it.

        Args:
          clip: in metres, in the joints `Model.source`.

        Raises:
          ValueError: there is no action, or see `ClipTokens.prepared`.
        """
        return self.predict_tokens(self.clip_tokens(clip))

    def predict_tokens(self, tokens: Float[np.ndarray, "S n"]) -> Recognition:
        """`predict` for tokens.

        Raises:
          ValueError: there is no action, or the tokens have a wrong shape.
        """
        self.state, found = self._step(self.state, self._features(tokens))
        return self._recognitions(found)[0]

    def predict_batch(
        self, tokens: Float[Array, "B S n"], learn: bool = True
    ) -> Callable[[], list[Recognition]]:
        """`predict` (or `look`) for each clip of a batch in order, as one program.

        Args:
          tokens: from `ClipTokens.encoded`, on the device.
          learn: adapt to each clip after its prediction; otherwise as `look`.

        Returns:
          A function that waits for the results and returns them.

        Raises:
          ValueError: there is no action.
        """
        self._check_actions()
        if learn:
            self.state, found = self._step_batch(self.state, tokens)
        else:
            found = self._look_batch(self.state, tokens)

        return partial(self._recognitions, found)

    def look(self, clip: Float[np.ndarray, "m t v 3"]) -> Recognition:
        """Predicts a clip without adaptation to it.

        Args:
          clip: in metres, in the joints `Model.source`.

        Raises:
          ValueError: there is no action, or see `ClipTokens.prepared`.
        """
        found = self._look_one(self.state, self._features(self.clip_tokens(clip)))
        return self._recognitions(found)[0]

    def add(self, name: str, texts: Any = None) -> None:
        """Adds an action.

        Args:
          texts: a sentence, or a text for each granularity and optionally a "sketch"; by default
            the texts of the training's class of this name, otherwise the name.

        Raises:
          ValueError: the action exists, no slot is free, or the texts are wrong.
        """
        name = name.strip()
        if name in self.names:
            raise ValueError(f"class {name!r} exists already")
        candidates = self.inputs.model.bind(self.inputs.classes({name: texts}))
        self.state, slot = add_class(
            self._adapter, self.state, candidates.classes[0], self._side(name)
        )
        self.names[slot] = name

    def remove(self, name: str) -> None:
        """Removes an action.

        Raises:
          ValueError: the action does not exist.
        """
        if name not in self.actions:
            names = ", ".join(map(repr, self.actions)) or "none"
            raise ValueError(f"no class {name!r}: expected one of {names}")
        slot = self.names.index(name)
        self.state = retire_class(self._adapter, self.state, slot)
        self.names[slot] = None

    def reset(self) -> None:
        """Undoes all adaptation."""
        # The initial state shares buffers, which a step would donate.
        self.state = jax.tree.map(jnp.copy, reset(self._adapter, self.state))

    def _side(self, name: str) -> Bool[Array, " C"]:
        """A mask of the slots that an action may use."""
        slots = jnp.arange(len(self.names))
        if name in self._seen:
            return slots == self._seen.index(name)
        return slots >= len(self._seen)

    @property
    def clip_tokens(self) -> ClipTokens:
        """The encoder of clips.

        Raises:
          ValueError: the model was trained on features.
        """
        if self.inputs.clip_tokens is None:
            raise ValueError("this model was trained on features: expected tokens, got a clip")
        return self.inputs.clip_tokens

    def _features(self, tokens: Float[np.ndarray, "S n"]) -> Any:
        """Features of tokens, which are rounded like those in the token store of a run."""
        self._check_actions()
        if tokens.shape != self._token_shape:
            expected, found = list(self._token_shape), list(tokens.shape)
            raise ValueError(f"tokens: expected {expected}, got {found}")
        return self._encode(
            tokens if self.inputs.clip_tokens is None else tokens.astype(TOKEN_DTYPE)
        )

    def _check_actions(self) -> None:
        if not self.actions:
            raise ValueError("there is no class to choose from: add one")

    @property
    def _token_shape(self) -> tuple[int, int]:
        segments, points, width = self.inputs.model.token_shape
        return segments * points, width

    def _encode(self, tokens: Float[np.ndarray, "S n"]) -> Any:
        """Features of one sample, leaves `[1, ...]`."""
        return self._encoded(jnp.asarray(tokens)[None])

    def _encoded(self, tokens: Float[Array, "B S n"]) -> Any:
        model = self.inputs.model
        return model.method.encode(model.variables, tokens.astype(jnp.float32))

    def _stepped(self, state: State, features: Any) -> tuple[State, Found]:
        """A step, and the highest logit of the static model for each sample."""
        best = self._best_static(state, features)
        state, prediction = self._adapter.step(state, features)
        return state, (prediction, best)

    def _best_static(self, state: State, features: Any) -> Float[Array, " B"]:
        """The highest static logit of each sample; infinity if the model has no threshold."""
        model = self.inputs.model
        if model.none_below is None:
            return jnp.full(len(jax.tree.leaves(features)[0]), jnp.inf)
        static = model.method.score(model.variables, features, state.candidates)
        return jnp.where(state.active, static, -jnp.inf).max(axis=-1)

    @cached_property
    def _look_one(self) -> Callable[[State, Any], Found]:
        """A step whose new state is discarded; it does not donate the state."""
        return jax.jit(lambda state, features: self._stepped(state, features)[1])

    @cached_property
    def _step_batch(self) -> Callable[[State, Any], tuple[State, Found]]:
        """Steps over the samples of a batch of tokens."""

        def run(state: State, tokens: Float[Array, "B S n"]) -> tuple[State, Found]:
            features = self._encoded(tokens)
            best = self._best_static(state, features)
            state, prediction = run_stream(self._adapter, state, features)
            return state, (prediction, best)

        return jax.jit(run, donate_argnums=0)

    @cached_property
    def _look_batch(self) -> Callable[[State, Any], Found]:
        """Predictions for the samples of a batch of tokens, without adaptation."""

        def run(state: State, tokens: Float[Array, "B S n"]) -> Found:
            features = self._encoded(tokens)
            ones = jax.tree.map(lambda leaf: leaf[:, None], features)
            found = jax.lax.map(lambda one: self._stepped(state, one)[1], ones)
            return jax.tree.map(lambda leaf: leaf[:, 0], found)

        return jax.jit(run)

    def _recognitions(self, found: Found) -> list[Recognition]:
        """Waits for predictions and converts them."""
        return recognitions(jax.device_get(found), self.names, self.inputs.model.none_below)
