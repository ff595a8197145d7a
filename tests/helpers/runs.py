"""Variants of a trained run, made without training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dynapurls_jax.evaluation.trained_run import TrainedRun, class_text
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.registry import METHODS, make_method


def changed(run: TrainedRun, overrides: dict) -> TrainedRun:
    """The run with changed keys of its configuration, and the matching method.

    Args:
      overrides: such as {"eval.stream": "blocked"}.
    """
    config = run.config.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides)
    inputs = dataclasses.replace(run.inputs, config=config)
    run = dataclasses.replace(run, inputs=inputs)
    if not any(key.startswith("method.") for key in overrides):
        return run
    joints = run.inputs.skeleton.num_joints
    segments = run.tokens.shape[1] // joints
    shapes = Shapes(
        run.inputs.skeleton, (segments, joints, run.tokens.shape[2]), inputs.text.shape[-1]
    )
    return dataclasses.replace(run, method=make_method(config.method, shapes))


def fitted(run: TrainedRun, name: str) -> TrainedRun:
    """The run with a closed-form method fitted on its training clips; classes have no sketches."""
    run = changed(run, {"method.name": name})
    train, seen = run.protocol.train, run.protocol.seen
    if METHODS.entry(name).sketches:
        shape = (len(run.inputs.text), *run.tokens.shape[1:])
        run = dataclasses.replace(run, sketch_tokens=np.full(shape, np.nan, np.float32))
    text = class_text(seen, run.inputs.text, run.sketch_tokens)
    variables = jax.jit(run.method.fit)(
        jax.random.key(0),
        jnp.asarray(run.tokens[train], jnp.float32),
        jnp.asarray(run.labels_of(train, seen)),
        jax.tree.map(jnp.asarray, text),
    )
    return dataclasses.replace(run, variables=variables)


def score_only(run: TrainedRun) -> TrainedRun:
    """The run with a method without embedding and attention."""
    method = run.method._replace(embedding=None, attend=None)
    return dataclasses.replace(run, method=method)


def with_labels(run: TrainedRun, labels: np.ndarray) -> TrainedRun:
    """The run with other labels of its clips."""
    corpus = dataclasses.replace(run.inputs.corpus, labels=labels)
    return dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, corpus=corpus))
