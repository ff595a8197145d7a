"""From trained runs to a report: the one place where labels meet zero-shot predictions."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import jax

from dynapurls_jax.adaptation.static import static
from dynapurls_jax.evaluation.diagnosis import diagnose
from dynapurls_jax.evaluation.inspection import Inspection, inspect_stream
from dynapurls_jax.evaluation.page.viewer import Clips
from dynapurls_jax.evaluation.report import ReportInfo, RunResult, write_report
from dynapurls_jax.evaluation.run_page import write_run_page
from dynapurls_jax.evaluation.streams import predict_streams
from dynapurls_jax.evaluation.tasks import (
    oracle_hit_rate,
    orders_of,
    sentences_of,
    setup_of,
    unseen_task,
)
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.registry import chosen_settings


def evaluate(runs: Iterable[TrainedRun], folder: Path, command: str, profile: bool = False) -> str:
    """Evaluates runs of one configuration and writes the report into `folder`.

    Args:
      runs: one or more; each is dropped before the next is taken.
      command: what the user typed, for the report.
      profile: write a trace of the first run into the folder, too.

    Returns:
      The report's Markdown.
    """
    results: list[RunResult] = []
    for run in runs:
        with ExitStack() as stack:
            if profile and not results:
                stack.enter_context(jax.profiler.trace(folder / "profile"))
                print(f"  trace: {folder / 'profile'}", flush=True)
            result = evaluate_run(run)
        info = ReportInfo(run.config, run.inputs.corpus, command)
        if result.inspection is not None:
            page = write_run_page(folder, result, clips_of(run, result.inspection), info)
            print(f"  clip by clip: {page}", flush=True)
        results.append(replace(result, inspection=None))  # large for the 16 000 clips of NTU
    return write_report(folder, results, info)


def evaluate_run(run: TrainedRun) -> RunResult:
    """Predictions of one run on its unseen clips, with the labels beside them.

    Raises:
      ValueError: the zero-shot method lacks what the test-time method needs.
    """
    task = unseen_task(run)
    streams, oracle, inspection, diagnosis = {}, None, None, {}
    if run.method.oracle is not None:
        oracle = oracle_hit_rate(run, task)
    else:
        orders = orders_of(run, task.labels)
        setup = setup_of(run, task.class_ids)
        chunk = setup.settings.chunk
        methods = {"static": static(run.method, run.variables)}
        if (name := run.config.adapter.name) != "static":
            methods[name] = setup.method(run.variables, task.features, len(orders[0]))
        for name, method in methods.items():
            adapter = setup.adapter(method)
            streams[name] = predict_streams(adapter, task.inputs, orders, run.seed, chunk)
        inspection = inspect_stream(run, task.inputs, method, adapter, orders[0], chunk)
        diagnosis = diagnose(run, task)
    return RunResult(
        split=run.split,
        seed=run.seed,
        class_names=tuple(run.inputs.corpus.class_names[c] for c in task.class_ids),
        labels=task.labels,
        streams=streams,
        oracle=oracle,
        training=run.results,
        inspection=inspection,
        diagnosis=diagnosis,
    )


def clips_of(run: TrainedRun, inspection: Inspection) -> Clips:
    """The clips that a run's page plays, and the source of the queries of its attention."""
    protocol, inputs = run.protocol, run.inputs
    indices = protocol.unseen_test[inspection.samples]
    query, texts = _query_of(run)
    return Clips(
        joints=None if inputs.clips is None else inputs.clips.clips,
        indices=indices,
        ids=[inputs.corpus.clip_ids[n] for n in indices],
        skeleton=inputs.skeleton,
        query=query,
        texts=texts,
    )


def _query_of(run: TrainedRun) -> tuple[str, list[list[str]] | None]:
    """The text behind attention in words, and the eight texts of each class where it is theirs."""
    settings = chosen_settings(run.config.method)
    if settings.get("partition") == "static":
        return "none, the partition is fixed", None
    if settings.get("query") != "per_candidate":
        return "the mean of the seen classes' texts", None
    predicted = "the class that the static model predicted"
    sentences = sentences_of(run, run.protocol.unseen)
    if sentences is None:
        return predicted, None
    return predicted, [[phrasings[0] for phrasings in of_class] for of_class in sentences]
