"""Generalised zero-shot (GZSL) evaluation of trained runs, with gates fitted on pseudo runs.

Candidates and logits have an entry for every class of the corpus; classes that are neither seen nor
unseen in the split are inactive. All class ids are those of the corpus.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from data_pipelines.logs import log
from dynapurls_jax.adaptation.api import Adapter, run_stream
from dynapurls_jax.adaptation.gated import Gate, gated
from dynapurls_jax.evaluation.gzsl import (
    GateFit,
    PseudoClips,
    fit_gate,
    gate_of,
    scores_of,
    table_9,
)
from dynapurls_jax.evaluation.gzsl_page import write_gzsl_page
from dynapurls_jax.evaluation.gzsl_report import NO_GATE, GzslResult, write_gzsl_report
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.page_clips import clips_of
from dynapurls_jax.evaluation.report import ReportInfo
from dynapurls_jax.evaluation.streams import StreamInputs, predict_streams
from dynapurls_jax.evaluation.tasks import orders_of, setup_of
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.rng import key_of

CHUNK = 256  # clips of a batch of the static model
SHOWN_GATE = "stacking"  # the gate of pages, as of streams


def real_splits(splits: Sequence[str]) -> tuple[str, ...]:
    """The splits that are not pseudo splits.

    Raises:
      ValueError: all are pseudo splits.
    """
    real = tuple(split for split in splits if not split.startswith("pseudo-"))
    if not real:
        raise ValueError(
            f"expected a split to evaluate, got {', '.join(splits)}: pseudo splits serve to fit "
            "the gates"
        )
    return real


def evaluate_gzsl(
    runs: Iterable[TrainedRun],
    pseudo_runs: Mapping[str, Sequence[TrainedRun]],
    folder: Path,
    gates: Sequence[str],
    command: str,
) -> str:
    """Evaluates runs of one configuration and writes the report to `folder`.

    Args:
      runs: one or more runs of real splits; only one at a time is in memory.
      pseudo_runs: split to the runs of its pseudo split, on which its gates are fitted.
      gates: names in `adaptation.registry.GATES`.
      command: the user's command line, for the report.

    Returns:
      The report's Markdown.

    Raises:
      ValueError: the method needs labels, or a gate cannot be fitted.
    """
    fits: dict[str, dict[str, GateFit]] = {}
    results: list[GzslResult] = []
    for run in runs:
        if run.split not in fits:
            pseudo = [pseudo_clips(other) for other in pseudo_runs[run.split]]
            fits[run.split] = {gate: fit_gate(gate, pseudo) for gate in gates}
        results.append(evaluate_gzsl_run(run, fits[run.split]))
        info = ReportInfo(run.config, run.inputs.corpus, command)
        log.info(f"  page of the run: {write_page(folder, run, results[-1], info)}")
    seeds = {split: [other.seed for other in pseudo_runs[split]] for split in fits}
    return write_gzsl_report(folder, results, fits, seeds, info)


def fitted_gate(run: TrainedRun, pseudo_runs: Sequence[TrainedRun], name: str = "stacking") -> Gate:
    """The gate of a run, fitted on the runs of its pseudo split.

    Raises:
      ValueError: the method needs labels, or the gate cannot be fitted.
    """
    fit = fit_gate(name, [pseudo_clips(other) for other in pseudo_runs])
    return gate_of(fit, static_logits(run, run.protocol.val), seen_classes(run))


def pseudo_clips(run: TrainedRun) -> PseudoClips:
    """The validation clips of seen classes and the clips of pseudo-unseen classes of a pseudo run.

    Raises:
      ValueError: the method needs labels.
    """
    clips = np.concatenate([run.protocol.val, run.protocol.unseen_test])
    return PseudoClips(
        logits=static_logits(run, clips),
        labels=run.inputs.corpus.labels[clips],
        seen=seen_classes(run),
    )


def evaluate_gzsl_run(run: TrainedRun, fits: Mapping[str, GateFit]) -> GzslResult:
    """Predictions of one run on the test clips of seen and unseen classes, with their labels.

    Args:
      fits: gate name to its fit on pseudo runs.

    Raises:
      ValueError: there are no test clips of seen classes, or the method needs labels.
    """
    protocol = run.protocol
    if not len(protocol.seen_test):
        raise ValueError(f"split {run.split!r} has no test clips of seen classes")
    clips = clips_of_test(run)
    labels = run.inputs.corpus.labels[clips]
    seen = seen_classes(run)
    held_out = static_logits(run, protocol.val)
    gates = {name: gate_of(fit, held_out, seen) for name, fit in fits.items()}
    logits = static_logits(run, clips)
    orders = orders_of(run, labels)
    order = np.stack(orders)
    predicted = {NO_GATE: logits.argmax(axis=1)[order]}
    for name, gate in gates.items():
        full = predict_full(run, clips, orders, gate)
        for row, values in table_9(full, logits[order], seen).items():
            predicted[name, row] = values
    return GzslResult(
        split=run.split,
        seed=run.seed,
        seen=seen,
        class_ids=np.union1d(protocol.seen, protocol.unseen),
        labels=labels,
        gates=gates,
        scores={
            name: scores_of(name, logits, seen, fit.temperature, fit.weights)
            for name, fit in fits.items()
        },
        order=order,
        predicted=predicted,
    )


def predict_full(
    run: TrainedRun, clips: Int[np.ndarray, " N"], orders: Sequence[np.ndarray], gate: Gate
) -> Int[np.ndarray, "orders N"]:
    """Predicted class ids with a gate, and with the configured test-time method on both sides."""
    inputs = gzsl_inputs(run, clips)
    adapter, chunk = full_adapter(run, inputs, gate, len(orders[0]))
    title = f"{run.split}, seed {run.seed}, {gate.score}: stream orders"
    return predict_streams(adapter, inputs, orders, run.seed, chunk, title).predicted


def full_adapter(
    run: TrainedRun, inputs: StreamInputs, gate: Gate, samples: int
) -> tuple[Adapter, int]:
    """The configured test-time method on both sides of a gate, and the chunk size.

    Args:
      samples: length of the stream.
    """
    setup = setup_of(run, every_class(run))
    method = setup.method(run.variables, inputs.features, samples)
    both = gated(run.method, run.variables, gate, method, method, run.protocol.seen)
    return setup.adapter(both), setup.settings.chunk


def write_page(folder: Path, run: TrainedRun, result: GzslResult, info: ReportInfo) -> Path:
    """Writes the page of a run, for `SHOWN_GATE` if the result has it; returns the file."""
    gate = SHOWN_GATE if SHOWN_GATE in result.gates else next(iter(result.gates))
    inspection = inspect_gzsl(run, result, gate)
    shown = clips_of_test(run)[inspection.samples]
    clips = clips_of(run, shown, result.class_ids)
    return write_gzsl_page(folder, result, gate, inspection, clips, info)


def inspect_gzsl(run: TrainedRun, result: GzslResult, name: str) -> Inspection:
    """Repeats the first stream order of a gate, and returns all probabilities.

    Args:
      name: name of the gate.

    Returns:
      Static and refined probabilities of the classes `result.class_ids`. They are positive only on
      the side that the gate chooses for a clip. Attention and vectors are None.
    """
    gate, order = result.gates[name], result.order[0]
    samples = np.sort(order)
    inputs = gzsl_inputs(run, clips_of_test(run))
    adapter, chunk = full_adapter(run, inputs, gate, len(order))
    state = adapter.init(inputs.candidates, inputs.active, key_of(run.seed, "stream", 0))
    along = jax.tree.map(lambda leaf: leaf[order], inputs.features)
    refined = np.asarray(run_stream(adapter, state, along, chunk=chunk)[1].logits)
    to_unseen = result.scores[name] > gate.threshold
    static_side = np.where(
        result.seen != to_unseen[:, None], static_logits(run, clips_of_test(run)), -np.inf
    )
    return Inspection(
        samples=samples,
        order=np.searchsorted(samples, order),
        static=np.asarray(jax.nn.softmax(static_side[samples][:, result.class_ids])),
        adapted=np.asarray(jax.nn.softmax(refined[np.argsort(order)][:, result.class_ids])),
        attention=None,
        features=None,
        class_vectors=None,
    )


def clips_of_test(run: TrainedRun) -> Int[np.ndarray, " N"]:
    """Indices of the test clips of seen classes, then of unseen ones."""
    return np.concatenate([run.protocol.seen_test, run.protocol.unseen_test])


def static_logits(run: TrainedRun, clips: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N C"]:
    """Logits without adaptation; minus infinity for inactive classes.

    Raises:
      ValueError: the method needs labels.
    """
    if run.method.oracle is not None:
        raise ValueError(
            "a model of the published protocol (query=oracle_label, fit.published_protocol) has no "
            "zero-shot logits for a gate: expected one without labels"
        )
    inputs = gzsl_inputs(run, clips)
    parts = [
        jax.tree.map(lambda leaf, at=start: leaf[at : at + CHUNK], inputs.features)
        for start in range(0, len(clips), CHUNK)
    ]
    logits = [run.method.score(run.variables, part, inputs.candidates) for part in parts]
    return np.where(np.asarray(inputs.active), np.concatenate(logits), -np.inf)


def gzsl_inputs(run: TrainedRun, clips: Int[np.ndarray, " N"]) -> StreamInputs:
    """Some clips, and all classes of the corpus as candidates; seen and unseen ones are active."""
    classes = every_class(run)
    return StreamInputs(
        features=run.features_of(clips),
        candidates=run.candidates_of(classes),
        active=np.isin(classes, [*run.protocol.seen, *run.protocol.unseen]),
    )


def seen_classes(run: TrainedRun) -> Bool[np.ndarray, " C"]:
    """For each class of the corpus, whether it is seen."""
    return np.isin(every_class(run), run.protocol.seen)


def every_class(run: TrainedRun) -> Int[np.ndarray, " C"]:
    """All class ids of the corpus."""
    return np.arange(len(run.inputs.text))
