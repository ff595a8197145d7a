"""A trained run that answers requests one by one, for as long as they come."""

import sys
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.cleaning import clean, is_useless
from data_pipelines.formats.raw import RawClip
from data_pipelines.formats.sample_stream import Request
from data_pipelines.locks import one_at_a_time
from data_pipelines.prepared import PreparedClips, prepare_clip
from dynapurls_jax.adaptation import (
    State,
    add_class,
    reset,
    retire_class,
    with_capacity,
)
from dynapurls_jax.adaptation.registry import make_adapter, make_method
from dynapurls_jax.zero_shot.nn.partition import VisualFeatures
from dynapurls_jax.config import ADAPTERS, plain
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.evaluation.streams import candidate_text
from dynapurls_jax.text.encoders import TextEncoder, make_text_encoder
from dynapurls_jax.text.features import class_vector
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.training.checkpoints import tree_digest
from dynapurls_jax.training.extract import TOKEN_DTYPE, tokens_of
from dynapurls_jax.serving.stream_checkpoint import StreamCheckpoint
from dynapurls_jax.training.run import Inputs, encoder_stage, load_trained, run_folder
from dynapurls_jax.training.signals import Stopped, interrupts_after


class LiveStream:
    """State, names of the slots, and what a request has to go through.

    The configuration's `eval` says which method runs; annealing has no meaning for a stream whose
    end nobody knows, so its rate is constant.
    """

    def __init__(
        self, inputs: Inputs, workdir: Path, split: str, seed: int, capacity: int | None = None
    ):
        """Loads a finished run.

        Args:
          capacity: classes that there is room for; the unseen ones by default.

        Raises:
          FileNotFoundError: the run is not trained.
          ValueError: more unseen classes than capacity.
        """
        config = inputs.config
        run = load_trained(inputs, workdir, split, seed)
        unseen = run.protocol.unseen
        self._inputs = inputs
        self._variables = run.variables
        self._model = model_of(config, inputs.text.shape[-1])
        self._tokens_shape = run.tokens.shape[1:]
        self._clip_tokens = None
        if inputs.clips is not None:
            folder = run_folder(workdir, split, seed)
            encoder, _ = encoder_stage(inputs, inputs.clips, run.protocol, folder, seed)
            self._clip_tokens = ClipTokens(inputs, inputs.clips, encoder)
        text = candidate_text(jnp.asarray(inputs.text), run.protocol.seen, unseen)
        text, active = with_capacity(text, len(unseen) if capacity is None else capacity)
        names = [inputs.corpus.class_names[c] for c in unseen]
        self.names: list[str | None] = [*names, *[None] * (len(active) - len(names))]
        one = self._encode(jnp.zeros(self._tokens_shape))
        live = config.copy_and_resolve_references()
        live.refine.anneal = False
        adapter = config.eval.adapter
        method = make_method(adapter, live, self._model, self._variables, one, samples=1)
        self._adapter = make_adapter(live, method)
        # A step gives its state away: the buffers must be its own.
        state = self._adapter.init(text, active, jax.random.key(seed))
        self.state: State = jax.tree.map(jnp.copy, state)
        step = jax.jit(self._adapter.step, donate_argnums=0)
        self._step = step.lower(self.state, one).compile()  # the first sample must not wait for it
        self.identity = {
            "adapter": adapter,
            "turn": config.eval.turn,
            "settings": plain(live, *filter(None, [ADAPTERS[adapter]])),
            "weights": tree_digest(run.variables),
            "texts": inputs.text_digest,
            "capacity": len(active),
        }

    def answer(self, request: Request) -> dict:
        """What to say to a request; a bad one changes nothing.

        Returns:
          `line`, `id` if there was one, and one of: `class`, `confidence`, `adapted` and
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

    def _handle(self, request: Request) -> dict:
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
            # Its buffers are the fresh state's: a step that donates them needs its own.
            self.state = jax.tree.map(jnp.copy, reset(self._adapter, self.state))
            return {"reset": True}
        return self._predict(self._sample(request))

    def _add(self, name: str, texts: dict | None) -> dict:
        if name in self.names:
            raise ValueError(f"class {name!r} is there already")
        settings = self._inputs.config.text
        rows = jnp.asarray(class_vector(settings, self._text_encoder, name, texts))
        self.state, slot = add_class(self._adapter, self.state, rows)
        self.names[slot] = name
        return {"added": name}

    @cached_property
    def _text_encoder(self) -> TextEncoder:
        """Loaded when the first class is added.

        Raises:
          ValueError: there is none, or its weights cannot be loaded.
        """
        settings = self._inputs.config.text
        if settings.encoder == "precomputed":
            raise ValueError("precomputed text vectors: no encoder for a new class's words")
        try:
            return make_text_encoder(settings)
        except (ImportError, OSError) as error:
            raise ValueError(f"the text encoder cannot be loaded: {error}") from error

    def _slot(self, name: str) -> int:
        if name not in self.names:
            known = ", ".join(filter(None, self.names))
            raise ValueError(f"no class {name!r}; there are {known}")
        return self.names.index(name)

    def _sample(self, request: Request) -> VisualFeatures:
        """The sample as the method takes it."""
        tokens = request.value
        if request.kind == "clip":
            if self._clip_tokens is None:
                raise ValueError("this run was trained on features: expected tokens, got a clip")
            tokens = self._clip_tokens(tokens)
        if tokens.shape != self._tokens_shape:
            raise ValueError(
                f"tokens: expected {list(self._tokens_shape)}, got {list(tokens.shape)}"
            )
        if self._clip_tokens is not None:  # as the store has them: an evaluation reads that
            tokens = tokens.astype(TOKEN_DTYPE)
        return self._encode(jnp.asarray(tokens, jnp.float32))

    def _encode(self, tokens) -> VisualFeatures:
        return self._model.encode(self._variables, tokens[None])

    def _predict(self, visual: VisualFeatures) -> dict:
        self.state, prediction = self._step(self.state, visual)
        if bool(prediction.skipped[0]):
            return {"class": None, "skipped": "not finite"}
        return {
            "class": self.names[int(prediction.label[0])],
            "confidence": round(float(prediction.confidence[0]), 6),
            "adapted": bool(prediction.adapted[0]),
        }


@dataclass
class ClipTokens:
    """One clip through everything that a corpus's clips went through."""

    inputs: Inputs
    clips: PreparedClips
    variables: dict

    def __post_init__(self):
        """Compiled once for each number of persons, for one of them now."""
        self.variables = jax.device_put(self.variables)
        apply = tokens_of(self.inputs.config, self.variables, self.clips)
        self._apply = jit(apply, static_argnums=2)
        alone = np.zeros((1, *self.clips.clips.shape[1:]), np.float32)
        alone[:, 0] = 1
        self._tokens(alone, 1)

    def _tokens(self, batch: np.ndarray, persons: int) -> np.ndarray:
        """`[S, n]` of a batch of one."""
        capacity = capacity_for(np.array([persons]), batch.shape[1])
        tokens = np.asarray(self._apply(self.variables, batch, capacity))
        return tokens.reshape(-1, tokens.shape[-1])

    def __call__(self, clip: np.ndarray) -> np.ndarray:
        """Tokens `[S, n]` of a clip `[m, t, V, 3]`; NaN if it is not finite.

        Raises:
          ValueError: other joints or more persons than the dataset has, or an empty clip.
        """
        skeleton = self.inputs.corpus.skeleton
        _, persons, frames, _, _ = self.clips.clips.shape
        if clip.shape[2] != skeleton.num_joints:
            raise ValueError(
                f"clip: expected {skeleton.num_joints} joints ({skeleton.name}), "
                f"got {clip.shape[2]}"
            )
        finite = bool(np.isfinite(clip).all())
        raw = clean(RawClip("", clip if finite else np.ones_like(clip), 0))
        if is_useless(raw):
            raise ValueError("clip: expected two frames or more with a person, got none such")
        if len(raw.joints) > persons:
            raise ValueError(f"clip: expected at most {persons} persons, got {len(raw.joints)}")
        fit, target = self.inputs.config.data.fit, self.clips.skeleton
        batch = prepare_clip(raw.joints, skeleton, target, fit, (persons, frames))[None]
        tokens = self._tokens(batch, len(raw.joints))
        return tokens if finite else np.full_like(tokens, np.nan)


def answer_all(
    live: LiveStream, requests: Iterable[Request], folder: Path | None
) -> Generator[dict, None, None]:
    """Answers as requests come; the state is kept along the way and at the end, however it ends.

    `serving.stream_checkpoint` says when. Ctrl-C and SIGTERM wait until a request is answered: only between
    two of them is a state whole.

    Args:
      folder: where the state is kept and gone on from, by one process at a time; None to keep
        nothing.

    Raises:
      WorkdirMismatchError: the folder holds another stream's state.
    """
    with ExitStack() as stack:
        stream_checkpoint = None
        if folder is not None:
            with redirect_stdout(sys.stderr):  # it may have to say that it waits
                stack.enter_context(one_at_a_time(folder / "lock"))
            stream_checkpoint = stack.enter_context(closing(StreamCheckpoint(live, folder)))
        for request in requests:
            with interrupts_after() as came:
                answer = live.answer(request)
                if stream_checkpoint is not None:
                    stream_checkpoint.after(answer)
            yield answer
            if came:
                raise Stopped(came[0])
