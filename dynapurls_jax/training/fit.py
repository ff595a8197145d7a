"""Stage 3: fits a zero-shot method on the seen classes, in closed form or by gradient descent."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from data_pipelines.logs import log
from dynapurls_jax.evaluation.trained_run import class_text
from dynapurls_jax.registry import plain, settings_key, settings_of
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.checkpoints import Checkpoints, open_checkpoints
from dynapurls_jax.training.epochs import Group, choose_epochs, train_methods
from dynapurls_jax.training.folds import folds_of
from dynapurls_jax.training.method_task import (
    FitSettings,
    MethodTask,
    Samples,
    validation_accuracy,
)
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.training.stages import Stage, identity_hash, open_stage, stage_folder
from dynapurls_jax.zero_shot.base import Shapes, Variables, ZeroShotMethod
from dynapurls_jax.zero_shot.registry import METHODS, make_method

T = TypeVar("T")
TRAINING = 2  # changes with the stage's checkpoints and with what a seed determines


def method_identity(spec: RunSpec, tokens_identity: dict) -> dict:
    """The identity of a method stage: everything that its variables depend on.

    Args:
      tokens_identity: identity of the tokens, with the hash of the encoder's weights.
    """
    name = spec.config.method.name
    entry, inputs = METHODS.entry(name), spec.inputs
    more: dict = {"words": inputs.words_digest} if entry.words else {}
    if entry.trained:
        more["training"] = TRAINING
    return {
        "method": plain(spec.config.method, "name", settings_key(name)),
        "fit": plain(spec.config, "fit")["fit"],
        "tokens": identity_hash(tokens_identity),
        "texts": inputs.text_digest,
        "sketches": inputs.sketches_digest if entry.sketches else None,
        **more,
    } | spec.identity()


def method_folder(spec: RunSpec, tokens_identity: dict) -> Path:
    """The folder of a run's method stage."""
    identity = method_identity(spec, tokens_identity)
    return stage_folder(spec.folder / "methods", spec.config.method.name, identity)


def fit_methods(
    specs: Sequence[RunSpec],
    tokens: np.ndarray,
    sketches: np.ndarray | None,
    tokens_identities: Sequence[dict],
) -> list[tuple[ZeroShotMethod, Variables, dict]]:
    """Fits the method of runs that differ in the seed alone, or restores it.

    Args:
      specs: the runs, whose tokens are the same.
      tokens: `[N, T', P, n]` of all clips of the corpus.
      sketches: `[C, S, n]` from `sketch_tokens`, or None.
      tokens_identities: of each run, see `method_identity`.

    Returns:
      For each run, the method, its variables on the device, and the results of its stage.
    """
    name = specs[0].config.method.name
    tasks = [task_of(spec, tokens, sketches) for spec in specs]
    stages = [
        open_stage(spec.folder / "methods", name, method_identity(spec, identity))
        for spec, identity in zip(specs, tokens_identities, strict=True)
    ]
    if tasks[0].method.fit:
        found = _with_checkpoints(stages, lambda opened: list(map(solve, tasks, opened)))
    else:
        found = _train(specs, tasks, stages, tokens_identities)
    fitted = []
    for task, stage, (variables, results) in zip(tasks, stages, found, strict=True):
        if stage.results is None:
            stage.finish(results)
        results = stage.results or {}
        log.info(f"  {name}: {accuracies(results)}")
        fitted.append((task.method, jax.device_put(variables), results))
    return fitted


def task_of(spec: RunSpec, tokens: np.ndarray, sketches: np.ndarray | None) -> MethodTask:
    """The method of a run, and the data that it is fitted on."""
    protocol, inputs, (segments, points, width) = spec.protocol, spec.inputs, tokens.shape[1:]
    shapes = Shapes(inputs.skeleton, (segments, points, width), inputs.text.shape[-1])
    settings = settings_of(FitSettings, spec.config.fit, "fit")
    method = make_method(spec.config.method, shapes)
    words = inputs.words if METHODS.entry(spec.config.method.name).words else None
    flat = tokens.reshape(len(tokens), -1, tokens.shape[-1])

    def samples(clips: np.ndarray, classes: np.ndarray) -> Samples:
        labels = np.searchsorted(classes, inputs.corpus.labels[clips])
        return Samples(flat[clips], labels.astype(np.int32))

    def text_of(classes: np.ndarray):
        return class_text(classes, inputs.text, sketches, words)

    published = None
    if settings.published_protocol and method.loss is not None:
        unseen = protocol.unseen
        published = samples(protocol.unseen_test, unseen), text_of(unseen)
        method = with_published_epoch(method)
    return MethodTask(
        method=method,
        settings=settings,
        shapes=shapes,
        train=samples(protocol.train, protocol.seen),
        val=samples(protocol.val, protocol.seen),
        text=text_of(protocol.seen),
        ids=[inputs.corpus.clip_ids[i] for i in protocol.train],
        seed=spec.seed,
        record=plain(spec.config, *spec.config),
        published=published,
    )


def _with_checkpoints(stages: Sequence[Stage], work: Callable[[list[Checkpoints]], T]) -> T:
    """The result of work with the checkpoints of stages, which are closed after it."""
    with ExitStack() as stack:
        return work([stack.enter_context(closing(open_checkpoints(stage))) for stage in stages])


def _train(
    specs: Sequence[RunSpec],
    tasks: Sequence[MethodTask],
    stages: Sequence[Stage],
    tokens_identities: Sequence[dict],
) -> list[tuple[Variables, dict]]:
    """Trains methods with a loss for the number of epochs that their folds choose."""
    choices = _choices(specs, tasks, stages, tokens_identities)
    epochs = [choice["best_epoch"] for choice in choices]
    folders = [stage.folder for stage in stages]

    def train(opened: list[Checkpoints]):
        return train_methods(Group(tasks, opened, folders, specs[0].profile), epochs)

    trained = _with_checkpoints(stages, train)
    return [
        (variables, choice | results)
        for choice, (variables, results) in zip(choices, trained, strict=True)
    ]


def _choices(
    specs: Sequence[RunSpec],
    tasks: Sequence[MethodTask],
    stages: Sequence[Stage],
    tokens_identities: Sequence[dict],
) -> list[dict]:
    """The chosen number of epochs of each run: results of `choose_epochs`.

    Folds have a stage of their own, beside the folders of the runs. Runs with the same tokens share
    it: their folds are those of seed 0, and are trained once. Tokens of a trained encoder depend on
    the seed, and so do their folds.
    """
    most = tasks[0].settings.epochs
    if not len(folds_of(tasks[0]).held):
        return [{"held_out_accuracy": None, "best_epoch": most, "epochs": most}] * len(tasks)
    found: dict[Path, tuple[Stage, MethodTask]] = {}
    folders = []
    for spec, task, stage, tokens in zip(specs, tasks, stages, tokens_identities, strict=True):
        task = replace(task, seed=tokens.get("seed", 0))
        parent, identity = spec.folder.parent / "folds", stage.identity | {"seed": task.seed}
        folds = open_stage(parent, spec.config.method.name, identity)
        found[folds.folder] = folds, task
        folders.append(folds.folder)
    missing = [one for one in found.values() if one[0].results is None]
    if missing:
        own, chosen = zip(*missing, strict=True)
        work = partial(_choose, chosen, [stage.folder for stage in own])
        for stage, choice in zip(own, _with_checkpoints(own, work), strict=True):
            stage.finish(choice)
    return [found[folder][0].results or {} for folder in folders]


def _choose(tasks, folders, checkpoints: list[Checkpoints]) -> list[dict]:
    return choose_epochs(Group(tasks, checkpoints, folders))


@lru_cache
def with_published_epoch(method: ZeroShotMethod) -> ZeroShotMethod:
    """The method with an `oracle`, as test labels choose the epoch: its results are marked."""

    def oracle(variables, features, candidates, labels):
        return method.score(variables, features, candidates)

    return method if method.oracle is not None else method._replace(oracle=oracle)


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
