"""The test of a trained run: samples, candidates, stream orders and the test-time method."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from ml_collections import FrozenConfigDict

from dynapurls_jax.adaptation.api import Adapter, Method, Prompt, StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.prompt_tower import tower_prompt
from dynapurls_jax.adaptation.registry import make_method
from dynapurls_jax.adaptation.similarity import embedding_of
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.evaluation.streams import StreamInputs, stream_order
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.registry import settings_of
from dynapurls_jax.text.descriptions import ClassTexts
from dynapurls_jax.text.encoders import make_text_encoder
from dynapurls_jax.text.features import class_texts
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.zero_shot.base import Candidates, ZeroShotMethod

ORACLE = "ORACLE"  # marks results that depend on true labels, as the published protocol does


class Task(NamedTuple):
    """Samples to recognise among candidates, and their true labels.

    Attributes:
      features: a pytree with leaves `[N, ...]`.
      labels: `[N]` indices into the candidates; for stream orders and metrics only.
      class_ids: `[C]` class ids of the candidates in the corpus.
    """

    features: Any
    candidates: Candidates
    labels: Int[np.ndarray, " N"]
    class_ids: Int[np.ndarray, " C"]

    @property
    def inputs(self) -> StreamInputs:
        """The task without labels."""
        return StreamInputs(self.features, self.candidates)


def unseen_task(run: TrainedRun) -> Task:
    """The zero-shot test: the test clips of unseen classes, with these classes as candidates."""
    clips, classes = run.protocol.unseen_test, run.protocol.unseen
    return Task(
        features=run.features_of(clips),
        candidates=run.candidates_of(classes),
        labels=run.labels_of(clips, classes),
        class_ids=classes,
    )


def orders_of(run: TrainedRun, labels: Int[np.ndarray, " N"]) -> list[np.ndarray]:
    """The stream orders of a configuration; see `stream_order`.

    Raises:
      ValueError: a setting of the section `eval` is wrong.
    """
    settings = settings_of(EvalSettings, run.config.eval, "eval")
    return [
        stream_order(settings.stream, labels, run.seed, number) for number in range(settings.orders)
    ]


def oracle_hit_rate(run: TrainedRun, task: Task) -> float:
    """Hit rate in [0, 1] of the published (ORACLE) protocol. Not an accuracy."""
    assert run.method.oracle is not None
    labels = jnp.asarray(task.labels)
    logits = run.method.oracle(run.variables, task.features, task.candidates, labels)
    return float(jnp.mean(logits.argmax(-1) == labels))


@dataclass(frozen=True)
class StreamSetup:
    """The methods and settings of a stream; equal setups share a compiled program.

    Attributes:
      model: the zero-shot method.
      section: the section `adapter` of a configuration.
      settings: the section `eval` of a configuration.
      prompt: the prompt of TPT; None for other methods.
    """

    model: ZeroShotMethod
    section: FrozenConfigDict
    settings: EvalSettings
    prompt: Prompt | None = None

    def method(self, variables: Any, features: Any, samples: int | None) -> Method:
        """The test-time method.

        Args:
          features: features of some samples, for their shapes.
          samples: length of the stream; None for an unlimited stream.

        Raises:
          ValueError: the test-time method does not work with the zero-shot method.
        """
        info = StreamInfo.of(features, samples, self.settings.chunk, self.prompt)
        return make_method(self.section, self.model, variables, info)

    def adapter(self, method: Method) -> Adapter:
        """The adapter that runs a method on a stream."""
        return adapter_of(method, self.settings.update_before_predict)


def setup_of(run: TrainedRun, class_ids: Int[np.ndarray, " C"] | None = None) -> StreamSetup:
    """The setup of a run's configuration.

    Args:
      class_ids: class ids of the candidates, for the prompt of TPT; None for streams whose classes
        change.

    Raises:
      ValueError: a setting is wrong, or the text encoder does not support prompts.
    """
    config, prompt = run.config, None
    if config.adapter.name == "tpt" and class_ids is not None and run.method.attend is not None:
        prompt = _tower_prompt(run, class_ids)  # reads weights, so it must precede tracing
    settings = settings_of(EvalSettings, config.eval, "eval")
    return StreamSetup(run.method, FrozenConfigDict(config.adapter), settings, prompt)


def _tower_prompt(run: TrainedRun, class_ids: Int[np.ndarray, " C"]) -> Prompt:
    settings = settings_of(TextSettings, run.config.text, "text")
    scored = embedding_of(run.method).scored(run.candidates_of(class_ids))
    encoder = None if settings.encoder == "precomputed" else make_text_encoder(settings)
    sentences = sentences_of(run, class_ids) or []
    bind = partial(run.method.bind, run.variables)
    return tower_prompt(encoder, sentences, scored.classes.shape[1], bind)


def sentences_of(run: TrainedRun, class_ids: Int[np.ndarray, " C"]) -> ClassTexts | None:
    """The encoded texts of some classes, with templates; None for precomputed embeddings."""
    settings = settings_of(TextSettings, run.config.text, "text")
    if settings.encoder == "precomputed":
        return None
    every = class_texts(settings, run.inputs.corpus)
    return [every[c] for c in class_ids]


@partial(jax.jit, static_argnums=0)
def predict_order(
    setup: StreamSetup, variables: Any, inputs: StreamInputs, order, key
) -> Int[Array, " N"]:
    """Predictions on one order, as indices into the candidates; compiled once for equal shapes.

    Args:
      variables: variables of the zero-shot method.
      order: `[N]` indices into the samples.
      key: random key of the order.
    """
    shuffled = jax.tree.map(lambda leaf: leaf[order], inputs.features)
    adapter = setup.adapter(setup.method(variables, inputs.features, len(order)))
    state = adapter.init(inputs.candidates, inputs.active, key)
    return run_stream(adapter, state, shuffled, chunk=setup.settings.chunk)[1].label
