"""Evaluates trained runs on unseen classes and writes the report.

Predictions are made without labels and compared with them afterwards.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import jax

from data_pipelines.logs import log
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.evaluation.diagnosis import diagnose
from dynapurls_jax.evaluation.inspection import inspect_stream
from dynapurls_jax.evaluation.page_clips import clips_of
from dynapurls_jax.evaluation.report import ReportInfo, RunResult, write_report
from dynapurls_jax.evaluation.run_page import write_run_page
from dynapurls_jax.evaluation.streams import predict_streams
from dynapurls_jax.evaluation.tasks import (
    oracle_hit_rate,
    orders_of,
    setup_of,
    unseen_task,
)
from dynapurls_jax.evaluation.trained_run import TrainedRun


def evaluate(runs: Iterable[TrainedRun], folder: Path, command: str, profile: bool = False) -> str:
    """Evaluates runs of one configuration and writes the report to `folder`.

    Args:
      runs: one or more runs; only one at a time is in memory.
      command: the user's command line, for the report.
      profile: write a profiler trace of the first run to `folder / "profile"`.

    Returns:
      The report's Markdown.

    Raises:
      ValueError: see `evaluate_run`.
    """
    results: list[RunResult] = []
    for run in runs:
        with ExitStack() as stack:
            if profile and not results:
                stack.enter_context(jax.profiler.trace(folder / "profile"))
                log.info(f"  profiler trace: {folder / 'profile'}")
            result = evaluate_run(run)
        info = ReportInfo(run.config, run.inputs.corpus, command)
        if result.inspection is not None:
            shown = run.protocol.unseen_test[result.inspection.samples]
            clips = clips_of(run, shown, run.protocol.unseen)
            page = write_run_page(folder, result, clips, info)
            log.info(f"  page of the run: {page}")
        results.append(replace(result, inspection=None))  # saves memory: NTU has 16 000 clips
    return write_report(folder, results, info)


def evaluate_run(run: TrainedRun) -> RunResult:
    """Predictions of one run on its unseen test clips, with their labels.

    Raises:
      ValueError: the test-time method does not work with the zero-shot method.
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
            title = f"{run.split}, seed {run.seed}, {name}: stream orders"
            streams[name] = predict_streams(adapter, task.inputs, orders, run.seed, chunk, title)
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
