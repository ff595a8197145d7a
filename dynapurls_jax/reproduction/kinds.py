"""The kinds of jobs: what is evaluated of one trained run, or of its encoder alone."""

import time
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from dynapurls_jax.adaptation.api import Method, StreamInfo, finite, run_stream
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.sweep import SweepTask, grid_of, sweep
from dynapurls_jax.evaluation.evaluate_gzsl import (
    clips_of_test,
    evaluate_gzsl_run,
    pseudo_clips,
    seen_classes,
    static_logits,
)
from dynapurls_jax.evaluation.gzsl import (
    TABLE_9,
    PseudoClips,
    fit_gate,
    gate_of,
    generalised_accuracy,
    scores_of,
)
from dynapurls_jax.evaluation.metrics import accuracy
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.evaluation.tasks import (
    ORACLE,
    Task,
    oracle_hit_rate,
    orders_of,
    predict_order,
    setup_of,
    unseen_task,
)
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.registry import settings_of
from dynapurls_jax.reproduction.layout import EVERY_GRANULARITY
from dynapurls_jax.reproduction.tables import CAPACITIES, THRESHOLDS
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.extract import class_logits
from dynapurls_jax.training.pretrain import encoder_task, pretrain, trained_classifier
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.zero_shot.base import ZeroShotMethod

Results = dict[str, list[float]]  # name to a value for each stream order
GATE = "entropy"  # the gate of the paper
STACKING = "stacking"  # the project's gate
LONG = 5.0  # seconds after which a speed measurement is not repeated

PseudoRun = Callable[[], TrainedRun]


def zsl(run: TrainedRun, _: PseudoRun) -> Results:
    """Accuracy in [0, 1] on the unseen clips, for each stream order."""
    task = unseen_task(run)
    if run.method.oracle is not None:
        return {ORACLE: [oracle_hit_rate(run, task)]}
    if run.config.adapter.name == "static":
        return _static(run, task)
    setup, rates = setup_of(run, task.class_ids), []
    for number, order in enumerate(orders_of(run, task.labels)):
        key = key_of(run.seed, "stream", number)
        predicted = predict_order(setup, run.variables, task.inputs, order, key)
        rates.append(accuracy(np.asarray(predicted), task.labels[order]))
    return {"accuracy": rates}


def _static(run: TrainedRun, task: Task) -> Results:
    """The results of a model without adaptation, which do not depend on the stream order."""
    usable = finite(task.features)  # a non-finite clip has no prediction, as in a stream

    def rate(logits) -> list[float]:
        predicted = jnp.where(usable, logits.argmax(axis=-1), -1)
        return [accuracy(np.asarray(predicted), task.labels)]

    variables, candidates = run.variables, task.candidates
    results = {
        "accuracy": rate(run.method.score(variables, task.features, candidates)),
        "chance": [1 / len(task.class_ids)],
    }
    if (embedding := run.method.embedding) is not None:
        vectors = embedding.embed(variables, task.features, candidates)
        results[EVERY_GRANULARITY] = rate(
            embedding.match_all(variables, vectors, candidates.classes)
        )
    return results


def refined(run: TrainedRun, _: PseudoRun) -> Results:
    """Accuracies in [0, 1] without and with adaptation, on the samples of each stream order."""
    task = unseen_task(run)
    logits = run.method.score(run.variables, task.features, task.candidates)
    alone = np.asarray(jnp.where(finite(task.features), logits.argmax(axis=-1), -1))
    setup = setup_of(run, task.class_ids)
    results: Results = {"static": [], "refined": []}
    for number, order in enumerate(orders_of(run, task.labels)):
        key = key_of(run.seed, "stream", number)
        predicted = predict_order(setup, run.variables, task.inputs, order, key)
        results["static"].append(accuracy(alone[order], task.labels[order]))
        results["refined"].append(accuracy(np.asarray(predicted), task.labels[order]))
    return results


def gzsl(run: TrainedRun, pseudo_run: PseudoRun) -> Results:
    """S, U and H in [0, 1] of the rows of Table 9 with the entropy gate, for each stream order."""
    fit = fit_gate(GATE, [pseudo_clips(pseudo_run())])
    result = evaluate_gzsl_run(run, {GATE: fit})
    return {
        f"{row} {side}": list(values)
        for row in TABLE_9
        for side, values in zip("SUH", zip(*result.accuracies(GATE, row), strict=True), strict=True)
    }


def gates(run: TrainedRun, pseudo_run: PseudoRun) -> Results:
    """S, U and H in [0, 1] of the static model with calibrated stacking.

    Besides H of the gate that is best on the test clips, which is ORACLE.
    """
    fit = fit_gate(STACKING, [pseudo_clips(pseudo_run())])
    clips, seen = clips_of_test(run), seen_classes(run)
    logits, labels = static_logits(run, clips), run.inputs.corpus.labels[clips]
    gate = gate_of(fit, static_logits(run, run.protocol.val), seen)
    to_unseen = scores_of(STACKING, logits, seen, fit.temperature) > gate.threshold
    predicted = np.where(seen != to_unseen[:, None], logits, -np.inf).argmax(axis=1)
    best = fit_gate(STACKING, [PseudoClips(logits, labels, seen)])
    found = generalised_accuracy(predicted, labels, seen)
    values = (*found, best.harmonic)
    return {name: [value] for name, value in zip((*"SUH", f"{ORACLE} H"), values, strict=True)}


def throughput(run: TrainedRun, _: PseudoRun) -> Results:
    """Samples per millisecond on the unseen stream, without the encoder; best of up to three."""
    task = unseen_task(run)
    setup = setup_of(run, task.class_ids)
    method = setup.method(run.variables, task.features, len(task.labels))
    adapter = setup.adapter(method)
    state = adapter.init(task.candidates)
    chunk = setup.settings.chunk
    program = run_stream.lower(adapter, state, task.features, chunk=chunk).compile()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < LONG:
        start = time.perf_counter()
        jax.block_until_ready(program(state, task.features))
        seconds.append(time.perf_counter() - start)
    return {"samples/ms": [len(task.labels) / (1000 * min(seconds))]}


def sensitivity(run: TrainedRun, _: PseudoRun) -> Results:
    """Figure 7: accuracies in [0, 1] for all thresholds and capacities, for each stream order."""
    task, evaluation = unseen_task(run), settings_of(EvalSettings, run.config.eval, "eval")
    base = settings_of(DynaPurlsSettings, run.config.adapter.dynapurls, "adapter.dynapurls")
    orders = np.stack(orders_of(run, task.labels))
    keys = jnp.stack([key_of(run.seed, "stream", number) for number in range(len(orders))])

    def make(model: ZeroShotMethod, info: StreamInfo, **cell) -> Method:
        settings = replace(base, **cell)
        return dynapurls(model, run.variables, settings, info, max_capacity=max(CAPACITIES))

    results = {}
    for name, grid in {
        "threshold": grid_of(threshold=THRESHOLDS, capacity=[base.capacity]),
        "capacity": grid_of(threshold=[base.threshold], capacity=CAPACITIES),
    }.items():
        swept = sweep(
            make,
            SweepTask(run.method, task.candidates, task.features),
            orders,
            keys,
            grid,
            chunk=evaluation.chunk,
            update_before_predict=evaluation.update_before_predict,
        )
        hits = np.asarray(swept.label) == task.labels[orders]
        for value, rates in zip(grid[name], hits.mean(axis=2), strict=True):
            results[f"{name} {value:g}"] = rates.tolist()
    return results


def seen(spec: RunSpec) -> Results:
    """Accuracy in [0, 1] of the encoder's own classifier on the seen test clips."""
    check_seen_test(spec)
    return {"accuracy": [pretrain(spec).results["seen_test_accuracy"]]}


def late_fusion(spec: RunSpec) -> Results:
    """As `seen`, of one encoder for each input stream: their softmax scores are averaged.

    The streams have equal weights, as in 2s-AGCN (Shi et al., CVPR 2019, section 4.4).
    """
    check_seen_test(spec)
    clips, scores = spec.protocol.seen_test, []
    for stream in spec.config.data.streams:
        config = spec.config.copy_and_resolve_references()
        config.data.streams = (stream,)
        alone = replace(spec, inputs=replace(spec.inputs, config=config))
        task = encoder_task(alone)
        _, variables = trained_classifier(alone, task)
        scores.append(jax.nn.softmax(class_logits(task, variables, clips)))
    predicted = np.mean(scores, axis=0).argmax(axis=-1)
    return {"accuracy": [accuracy(predicted, spec.seen_labels[clips])]}


def check_seen_test(spec: RunSpec) -> None:
    """Checks that a split has test clips of seen classes.

    Raises:
      ValueError: it has none.
    """
    if not len(spec.protocol.seen_test):
        raise ValueError(f"split {spec.split!r} has no test clips of seen classes")


KINDS: dict[str, Callable[[TrainedRun, PseudoRun], Results]] = {
    "zsl": zsl,
    "refined": refined,
    "gzsl": gzsl,
    "gates": gates,
    "throughput": throughput,
    "sweep": sensitivity,
}
ENCODER_KINDS: dict[str, Callable[[RunSpec], Results]] = {
    "seen": seen,
    "late_fusion": late_fusion,
}
