"""Stage 3: fits a zero-shot method on the seen classes, in closed form or by gradient descent."""

from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from data_pipelines.logs import log
from dynapurls_jax.evaluation.trained_run import class_text
from dynapurls_jax.registry import plain, settings_key, settings_of
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.checkpoints import Checkpoints, open_checkpoints
from dynapurls_jax.training.epochs import train_method
from dynapurls_jax.training.method_task import (
    FitSettings,
    MethodTask,
    Samples,
    validation_accuracy,
)
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.training.stages import identity_hash, open_stage, stage_folder
from dynapurls_jax.zero_shot.base import Shapes, Variables, ZeroShotMethod
from dynapurls_jax.zero_shot.registry import METHODS, make_method


def method_identity(spec: RunSpec, tokens_identity: dict) -> dict:
    """The identity of a method stage: everything that its variables depend on.

    Args:
      tokens_identity: identity of the tokens, with the hash of the encoder's weights.
    """
    name = spec.config.method.name
    entry, inputs = METHODS.entry(name), spec.inputs
    words = {"words": inputs.words_digest} if entry.words else {}
    return {
        "method": plain(spec.config.method, "name", settings_key(name)),
        "fit": plain(spec.config, "fit")["fit"],
        "tokens": identity_hash(tokens_identity),
        "texts": inputs.text_digest,
        "sketches": inputs.sketches_digest if entry.sketches else None,
        **words,
    } | spec.identity()


def method_folder(spec: RunSpec, tokens_identity: dict) -> Path:
    """The folder of a run's method stage."""
    identity = method_identity(spec, tokens_identity)
    return stage_folder(spec.folder / "methods", spec.config.method.name, identity)


def fit_method(
    spec: RunSpec, tokens: np.ndarray, sketches: np.ndarray | None, tokens_identity: dict
) -> tuple[ZeroShotMethod, Variables, dict]:
    """Fits the method of a run, or restores it.

    Args:
      tokens: `[N, T', P, n]` of all clips of the corpus.
      sketches: `[C, S, n]` from `sketch_tokens`, or None.
      tokens_identity: see `method_identity`.

    Returns:
      The method, its variables on the device, and the results of its stage.
    """
    protocol, (segments, points, width) = spec.protocol, tokens.shape[1:]
    words = spec.inputs.words if METHODS.entry(spec.config.method.name).words else None
    text_width = spec.inputs.text.shape[-1]
    shapes = Shapes(spec.inputs.skeleton, (segments, points, width), text_width)
    flat = tokens.reshape(len(tokens), -1, tokens.shape[-1])
    train, val = (
        Samples(flat[indices], spec.seen_labels[indices].astype(np.int32))
        for indices in (protocol.train, protocol.val)
    )
    task = MethodTask(
        method=make_method(spec.config.method, shapes),
        settings=settings_of(FitSettings, spec.config.fit, "fit"),
        shapes=shapes,
        train=train,
        val=val,
        text=class_text(protocol.seen, spec.inputs.text, sketches, words),
        ids=[spec.inputs.corpus.clip_ids[i] for i in protocol.train],
        seed=spec.seed,
        record=plain(spec.config, *spec.config),
    )
    name = spec.config.method.name
    stage = open_stage(spec.folder / "methods", name, method_identity(spec, tokens_identity))
    with closing(open_checkpoints(stage)) as checkpoints:
        if task.method.fit:
            variables, results = solve(task, checkpoints)
        else:
            variables, results = train_method(task, checkpoints, stage.folder, spec.profile)
    if stage.results is None:
        stage.finish(results)
    results = stage.results or {}
    log.info(f"  {name}: {accuracies(results)}")
    return task.method, jax.device_put(variables), results


def accuracies(results: dict) -> str:
    """The accuracies of a method stage as a log line."""
    found = f"seen validation accuracy {results['val_accuracy']:.3f}"
    if "best_epoch" in results:
        found += f" at epoch {results['best_epoch']} of {results['epochs']}"
    if results.get("held_out_accuracy") is not None:
        found += f", held-out class accuracy {results['held_out_accuracy']:.3f}"
    return found


def solve(task: MethodTask, checkpoints: Checkpoints) -> tuple[Variables, dict]:
    """Solves a closed-form method on all seen clips, or restores its variables.

    The reported validation accuracy is that of the solution on training clips alone. It selects
    nothing, so the returned variables are fitted on training and validation clips.

    Returns:
      The variables, on the host, and `{"val_accuracy": accuracy in [0, 1]}`.
    """
    fit = task.method.fit
    assert fit is not None

    def solution(train: Samples, val: Samples, text) -> tuple[Variables, Array]:
        key = key_of(task.seed, "method_init")
        train, val = (Samples(jnp.asarray(s.tokens, jnp.float32), s.labels) for s in (train, val))
        both = Samples(*(jnp.concatenate(pair) for pair in zip(train, val, strict=True)))
        on_train = fit(key, train.tokens, train.labels, text)
        share = validation_accuracy(task.method, on_train, val, text)
        return fit(key, both.tokens, both.labels, text), share

    samples = (task.train, task.val, task.text)
    if checkpoints.latest() is None:
        variables, share = jax.device_get(jax.jit(solution)(*samples))
        checkpoints.save(1, (variables, share))
    else:
        variables, share = checkpoints.restore(jax.eval_shape(solution, *samples), on_host=True)
    return variables, {"val_accuracy": float(share)}
