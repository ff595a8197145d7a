"""Generalised zero-shot evaluation of trained runs: gates fitted on pseudo runs, then tested.

Candidates and logits have an entry for every class of the corpus, with those that do not take part
switched off: class ids are global throughout.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from dynapurls_jax.adaptation.api import adapter_of, run_stream
from dynapurls_jax.adaptation.gated import Gate, gated
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.evaluation.gzsl import (
    GateFit,
    PseudoClips,
    fit_gate,
    gate_of,
    scores_of,
    table_9,
)
from dynapurls_jax.evaluation.gzsl_report import NO_GATE, GzslResult, write_gzsl_report
from dynapurls_jax.evaluation.report import ReportInfo
from dynapurls_jax.evaluation.streams import StreamInputs, predict_streams
from dynapurls_jax.evaluation.tasks import orders_of, setup_of
from dynapurls_jax.evaluation.trained_run import TrainedRun

CHUNK = 256  # clips scored at once where nothing is learned


def real_splits(splits: Sequence[str]) -> tuple[str, ...]:
    """Those with unseen classes of their own.

    Raises:
      ValueError: there is none.
    """
    real = tuple(split for split in splits if not split.startswith("pseudo-"))
    if not real:
        raise ValueError(
            f"expected a split with unseen classes of its own, got {', '.join(splits)}: on pseudo "
            "splits gates are fitted"
        )
    return real


def evaluate_gzsl(
    runs: Iterable[TrainedRun],
    pseudo_runs: Mapping[str, Sequence[TrainedRun]],
    folder: Path,
    gates: Sequence[str],
    command: str,
) -> str:
    """Evaluates runs of one configuration and writes the report into `folder`.

    Args:
      runs: of real splits, one or more; each is dropped before the next is taken.
      pseudo_runs: split to the runs of its pseudo split, on which its gates are fitted.
      gates: names in `adaptation.registry.GATES`.
      command: what the user typed, for the report.

    Returns:
      The report's Markdown.

    Raises:
      ValueError: a method that needs labels, or gates that cannot be fitted.
    """
    fits: dict[str, dict[str, GateFit]] = {}
    results: list[GzslResult] = []
    for run in runs:
        if run.split not in fits:
            pseudo = [pseudo_clips(other) for other in pseudo_runs[run.split]]
            fits[run.split] = {gate: fit_gate(gate, pseudo) for gate in gates}
        results.append(evaluate_gzsl_run(run, fits[run.split]))
        info = ReportInfo(run.config, run.inputs.corpus, command)
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
    """The held-out seen and the pseudo-unseen clips of a pseudo run."""
    clips = np.concatenate([run.protocol.val, run.protocol.unseen_test])
    return PseudoClips(
        logits=static_logits(run, clips),
        labels=run.inputs.corpus.labels[clips],
        seen=seen_classes(run),
    )


def evaluate_gzsl_run(run: TrainedRun, fits: Mapping[str, GateFit]) -> GzslResult:
    """Predictions of one run on its seen and unseen test clips, with the labels beside them.

    Args:
      fits: gate name to its fit on pseudo runs.

    Raises:
      ValueError: there are no test clips of seen classes, or the method needs labels.
    """
    protocol = run.protocol
    if not len(protocol.seen_test):
        raise ValueError(f"split {run.split!r} has no test clips of seen classes")
    clips = np.concatenate([protocol.seen_test, protocol.unseen_test])
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
        candidates=len(protocol.seen) + len(protocol.unseen),
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
    """Class ids behind a gate, with the configuration's test-time method on both sides."""
    inputs = gzsl_inputs(run, clips)
    setup = setup_of(run, every_class(run))
    method = setup.method(run.variables, inputs.features, len(orders[0]))
    both = gated(run.method, run.variables, gate, method, method, run.protocol.seen)
    chunk = setup.settings.chunk
    return predict_streams(setup.adapter(both), inputs, orders, run.seed, chunk).predicted


def static_logits(run: TrainedRun, clips: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N C"]:
    """Logits without adaptation; minus infinity for classes that do not take part.

    Raises:
      ValueError: the method needs labels.
    """
    if run.method.oracle is not None:
        raise ValueError(
            "query=oracle_label has no zero-shot logits for a gate: expected label_free or "
            "per_candidate"
        )
    inputs = gzsl_inputs(run, clips)
    adapter = adapter_of(static(run.method, run.variables))
    state = adapter.init(inputs.candidates, inputs.active)
    return np.asarray(run_stream(adapter, state, inputs.features, chunk=CHUNK)[1].logits)


def gzsl_inputs(run: TrainedRun, clips: Int[np.ndarray, " N"]) -> StreamInputs:
    """Clips among every class of the corpus, of which the seen and the unseen are active."""
    classes = every_class(run)
    return StreamInputs(
        features=run.features_of(clips),
        candidates=run.candidates_of(classes),
        active=np.isin(classes, [*run.protocol.seen, *run.protocol.unseen]),
    )


def seen_classes(run: TrainedRun) -> Bool[np.ndarray, " C"]:
    """Of each class of the corpus, whether it is seen."""
    return np.isin(every_class(run), run.protocol.seen)


def every_class(run: TrainedRun) -> Int[np.ndarray, " C"]:
    """All class ids of the corpus."""
    return np.arange(len(run.inputs.text))
