"""A trained model that recognises clips one by one, without an end, and refines itself."""

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

    The configuration's section `adapter` says which test-time method runs. The stream has no end,
    so no rate is annealed.

    Attributes:
      inputs: the encoders of clips and actions.
      state: of the test-time method.
      names: of the actions, one for each slot; None for a free one.
      identity: what both depend on, JSON-able.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        actions: Actions | None = None,
        capacity: int = 0,
        gate: bool = False,
    ):
        """Compiles everything that the first sample needs.

        Args:
          actions: to choose from; the model's candidates by default, with a gate its seen classes
            too.
          capacity: the least number of slots; there is one for each action.
          gate: put the model's gate between its seen classes and all other actions.

        Raises:
          ValueError: actions that cannot be used, a test-time method that cannot run, or a model
            without a gate.
        """
        self.inputs, model = inputs, inputs.model
        inputs.clip_tokens  # noqa: B018  compiled now: the first clip must not wait
        # Behind a gate each seen class has a slot, and the sides of slots are fixed.
        self._seen = model.seen if gate else ()
        classes = self._start(actions)
        candidates, active = with_capacity(model.bind(classes), max(capacity, len(classes.names)))
        self.names: list[str | None] = [*classes.names]
        self.names += [None] * (len(active) - len(classes.names))
        one = self._encode(np.zeros(self._token_shape, np.float32))
        self._adapter = self._make_adapter(one, gate)
        state = self._adapter.init(candidates, active, jax.random.key(model.seed))
        # A step donates the state: its buffers must not be shared with anything else.
        self.state: State = jax.tree.map(jnp.copy, state)
        step = jax.jit(self._stepped, donate_argnums=0)
        self._step = step.lower(self.state, one).compile()  # the first sample must not wait for it
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
        """The test-time method, behind a gate if asked for.

        Args:
          features: of one sample.
        """
        model = self.inputs.model
        settings = settings_of(EvalSettings, model.config.eval, "eval")
        setup = StreamSetup(model.method, FrozenConfigDict(model.config.adapter), settings)
        method = setup.method(model.variables, features, samples=None)
        if gate:
            if model.gate is None:
                raise ValueError(
                    "this model has no gate between seen and unseen classes: train the split "
                    "pseudo-<split>-0 beside its own, or leave --gate out"
                )
            seen = range(len(self._seen))
            method = gated(model.method, model.variables, model.gate, method, method, seen)
        return setup.adapter(method)

    def _start(self, actions: Actions | None) -> Classes:
        """The classes of the first slots: all seen ones behind a gate, then the actions."""
        chosen = self.inputs.classes(actions or self.inputs.model.candidates)
        if not self._seen:
            return chosen
        others = tuple(name for name in chosen.names if name not in self._seen)
        seen = self.inputs.model.classes.of(self._seen)
        return seen.joined(chosen.of(others)) if others else seen

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions to choose from."""
        return tuple(name for name in self.names if name is not None)

    def predict(self, clip: Float[np.ndarray, "m t v 3"]) -> Recognition:
        """The answer to a clip in the model's source joints; then the stream learns from it.

        Raises:
          ValueError: there is no action, or the model cannot take the clip.
        """
        return self.predict_tokens(self.clip_tokens(clip))

    def predict_tokens(self, tokens: Float[np.ndarray, "S n"]) -> Recognition:
        """`predict` for an encoder's output.

        Raises:
          ValueError: there is no action, or the tokens have another shape.
        """
        self.state, found = self._step(self.state, self._features(tokens))
        return self._recognitions(found)[0]

    def predict_batch(
        self, tokens: Float[Array, "B S n"], learn: bool = True
    ) -> Callable[[], list[Recognition]]:
        """`predict`, or `look`, for the clips of a batch one after the other, as one program.

        Args:
          tokens: of `ClipTokens.encoded`, on the device.
          learn: from each clip, after its answer.

        Returns:
          A function that waits for the answers.

        Raises:
          ValueError: there is no action.
        """
        self._check_actions()
        if learn:
            self.state, found = self._many(self.state, tokens)
        else:
            found = self._many_glances(self.state, tokens)

        return partial(self._recognitions, found)

    def look(self, clip: Float[np.ndarray, "m t v 3"]) -> Recognition:
        """The answer to a clip, from which the stream learns nothing.

        Raises:
          ValueError: there is no action, or the model cannot take the clip.
        """
        found = self._glance(self.state, self._features(self.clip_tokens(clip)))
        return self._recognitions(found)[0]

    def add(self, name: str, texts: Any = None) -> None:
        """Adds an action.

        Args:
          texts: a sentence, or a text for each granularity, perhaps with a "sketch"; by default the
            texts of a class that the model was trained with, else the name.

        Raises:
          ValueError: it is there already, no slot is free, or its texts cannot be used.
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
          ValueError: it is not there.
        """
        if name not in self.actions:
            names = ", ".join(map(repr, self.actions)) or "none"
            raise ValueError(f"no class {name!r}: expected one of {names}")
        slot = self.names.index(name)
        self.state = retire_class(self._adapter, self.state, slot)
        self.names[slot] = None

    def reset(self) -> None:
        """Undoes all adaptation."""
        # Copied: a fresh state shares buffers, and a step donates them.
        self.state = jax.tree.map(jnp.copy, reset(self._adapter, self.state))

    def _side(self, name: str) -> Bool[Array, " C"]:
        """The slots that an action may take."""
        slots = jnp.arange(len(self.names))
        if name in self._seen:
            return slots == self._seen.index(name)
        return slots >= len(self._seen)

    @property
    def clip_tokens(self) -> ClipTokens:
        """Clips to tokens.

        Raises:
          ValueError: the model takes no clips.
        """
        if self.inputs.clip_tokens is None:
            raise ValueError("this model was trained on features: expected tokens, got a clip")
        return self.inputs.clip_tokens

    def _features(self, tokens: Float[np.ndarray, "S n"]) -> Any:
        """Tokens encoded, rounded as in the store of an evaluation."""
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
        """A step, and the best logit that the static model has for each sample."""
        best = self._best_static(state, features)
        state, prediction = self._adapter.step(state, features)
        return state, (prediction, best)

    def _best_static(self, state: State, features: Any) -> Float[Array, " B"]:
        """Infinity where the model has no threshold."""
        model = self.inputs.model
        if model.none_below is None:
            return jnp.full(len(jax.tree.leaves(features)[0]), jnp.inf)
        static = model.method.score(model.variables, features, state.candidates)
        return jnp.where(state.active, static, -jnp.inf).max(axis=-1)

    @cached_property
    def _glance(self) -> Callable[[State, Any], Found]:
        """A step whose state is dropped; it leaves the state's buffers alone."""
        return jax.jit(lambda state, features: self._stepped(state, features)[1])

    @cached_property
    def _many(self) -> Callable[[State, Any], tuple[State, Found]]:
        """Steps over the samples of a batch of tokens."""

        def run(state: State, tokens: Float[Array, "B S n"]) -> tuple[State, Found]:
            features = self._encoded(tokens)
            best = self._best_static(state, features)
            state, prediction = run_stream(self._adapter, state, features)
            return state, (prediction, best)

        return jax.jit(run, donate_argnums=0)

    @cached_property
    def _many_glances(self) -> Callable[[State, Any], Found]:
        """Glances at the samples of a batch of tokens."""

        def run(state: State, tokens: Float[Array, "B S n"]) -> Found:
            features = self._encoded(tokens)
            ones = jax.tree.map(lambda leaf: leaf[:, None], features)
            found = jax.lax.map(lambda one: self._stepped(state, one)[1], ones)
            return jax.tree.map(lambda leaf: leaf[:, 0], found)

        return jax.jit(run)

    def _recognitions(self, found: Found) -> list[Recognition]:
        """Waits for the answers."""
        return recognitions(jax.device_get(found), self.names, self.inputs.model.none_below)
