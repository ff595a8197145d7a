"""The test of a trained run: samples, candidates, stream orders, and the test-time method."""

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

ORACLE = "ORACLE"  # marks results of the published protocol, which takes the true labels


class Task(NamedTuple):
    """Samples to recognise among candidates, and their true labels.

    Attributes:
      features: a pytree with leaves `[N, ...]`.
      labels: `[N]` positions in the candidates; for orders and metrics alone.
      class_ids: `[C]` the candidates' ids in the corpus.
    """

    features: Any
    candidates: Candidates
    labels: Int[np.ndarray, " N"]
    class_ids: Int[np.ndarray, " C"]

    @property
    def inputs(self) -> StreamInputs:
        """Without the labels."""
        return StreamInputs(self.features, self.candidates)


def unseen_task(run: TrainedRun) -> Task:
    """The zero-shot test: the unseen test clips among the unseen classes."""
    clips, classes = run.protocol.unseen_test, run.protocol.unseen
    return Task(
        features=run.features_of(clips),
        candidates=run.candidates_of(classes),
        labels=run.labels_of(clips, classes),
        class_ids=classes,
    )


def orders_of(run: TrainedRun, labels: Int[np.ndarray, " N"]) -> list[np.ndarray]:
    """The stream orders in which the configuration has a run evaluated; see `stream_order`."""
    settings = settings_of(EvalSettings, run.config.eval, "eval")
    return [
        stream_order(settings.stream, labels, run.seed, number) for number in range(settings.orders)
    ]


def oracle_hit_rate(run: TrainedRun, task: Task) -> float:
    """Share of samples whose class wins under the ORACLE protocol. Not an accuracy."""
    assert run.method.oracle is not None
    labels = jnp.asarray(task.labels)
    logits = run.method.oracle(run.variables, task.features, task.candidates, labels)
    return float(jnp.mean(logits.argmax(-1) == labels))


@dataclass(frozen=True)
class StreamSetup:
    """How a stream is predicted, apart from a run's variables; equal ones share a program.

    Attributes:
      section: the test-time method, as the section `adapter` of a configuration.
      settings: chunk, and whether it is learned from before it is predicted.
    """

    model: ZeroShotMethod
    section: FrozenConfigDict
    settings: EvalSettings
    prompt: Prompt | None = None

    def method(self, variables: Any, features: Any, samples: int | None) -> Method:
        """The test-time method.

        Args:
          features: of some samples, for their shapes.
          samples: length of the stream; None for a stream without an end.

        Raises:
          ValueError: the zero-shot method lacks what the test-time method needs.
        """
        info = StreamInfo.of(features, samples, self.settings.chunk, self.prompt)
        return make_method(self.section, self.model, variables, info)

    def adapter(self, method: Method) -> Adapter:
        """The method, ready for a stream."""
        return adapter_of(method, self.settings.update_before_predict)


def setup_of(run: TrainedRun, class_ids: Int[np.ndarray, " C"] | None = None) -> StreamSetup:
    """The setup that the configuration describes.

    Args:
      class_ids: of the candidates, whose texts a prompt goes through; None where classes are added
        and retired.

    Raises:
      ValueError: a value cannot be used, or the text encoder has no tower for a prompt.
    """
    config, prompt = run.config, None
    if config.adapter.name == "tpt" and class_ids is not None and run.method.attend is not None:
        prompt = _tower_prompt(run, class_ids)  # now: a traced program cannot read weights
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
    """The texts of some classes in their templates; None where vectors are precomputed."""
    settings = settings_of(TextSettings, run.config.text, "text")
    if settings.encoder == "precomputed":
        return None
    every = class_texts(settings, run.inputs.corpus)
    return [every[c] for c in class_ids]


@partial(jax.jit, static_argnums=0)
def predict_order(
    setup: StreamSetup, variables: Any, inputs: StreamInputs, order, key
) -> Int[Array, " N"]:
    """Predictions along one order, positions in the candidates; one program for runs of one size.

    Args:
      order: `[N]` indices into the samples.
    """
    shuffled = jax.tree.map(lambda leaf: leaf[order], inputs.features)
    adapter = setup.adapter(setup.method(variables, inputs.features, len(order)))
    state = adapter.init(inputs.candidates, inputs.active, key)
    return run_stream(adapter, state, shuffled, chunk=setup.settings.chunk)[1].label
