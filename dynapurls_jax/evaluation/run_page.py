"""The page of one run: a viewer of all clips, details and figures."""

from pathlib import Path

import numpy as np

from dynapurls_jax.evaluation.metrics import calibration
from dynapurls_jax.evaluation.page.viewer import Clips, Page, viewer_data, write_html
from dynapurls_jax.evaluation.report import (
    BEFORE_AND_AFTER,
    SYNTHETIC,
    ReportInfo,
    RunResult,
    page_name,
    percent,
)
from dynapurls_jax.evaluation.run_figures import RunView, draw_all


def write_run_page(folder: Path, result: RunResult, clips: Clips, info: ReportInfo) -> Path:
    """Writes `<split>-seed<k>.html`, and its figures to `<split>-seed<k>/`.

    Args:
      result: the result of the run, with its inspection.
      clips: the clips of the inspection's samples.

    Returns:
      The path of the page.
    """
    assert result.inspection is not None
    path = folder / page_name(result.split, result.seed)
    pictures = path.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    view = RunView(pictures, result, result.inspection, clips, info)
    page = Page(
        title=f"{info.data}: {result.classes} unseen actions, recognised from text",
        lead=lead_of(view),
        warning=SYNTHETIC if info.corpus.synthetic else "",
        command=info.command,
        facts=facts_of(view),
        summary=summary_of(view),
        figures=draw_all(view),
    )
    write_html(
        path,
        page,
        viewer_data(result.class_names, view.labels, view.inspection, clips, view.compared),
    )
    return path


def lead_of(view: RunView) -> str:
    """The introduction of the page for a new reader."""
    start = (
        f"Each clip shows one of {view.result.classes} actions. None of them is in the training "
        "data: the model has only their text descriptions."
    )
    return f"{start} {BEFORE_AND_AFTER}" if view.compared else start


def facts_of(view: RunView) -> list[tuple[str, str]]:
    """Accuracies for the head of the page, means over the stream orders."""
    result, adapter = view.result, view.info.adapter
    before = f"{100 * np.mean(result.accuracies('static')):.1f}"
    chance = (f"{100 / result.classes:.1f} %", "chance level")
    if not view.compared:
        return [(f"{before} %", "accuracy"), chance]
    after = f"{100 * np.mean(result.accuracies(adapter)):.1f}"
    return [(f"{before} → {after} %", "accuracy before and after refinement"), chance]


def summary_of(view: RunView) -> list[tuple[str, str]]:
    """Rows of the details: data, methods and measures."""
    result, info, adapter = view.result, view.info, view.info.adapter
    errors = {
        name: 100 * calibration(p.max(axis=1), p.argmax(axis=1) == view.labels).error
        for name, p in view.probabilities.items()
    }
    split = f"{result.split}: {result.classes} unseen classes, {len(result.labels)} clips"
    rows = [
        *info.rows(split, result.seed),
        ("chance level", f"{100 / result.classes:.1f} %"),
        ("accuracy before refinement", f"{percent(result.accuracies('static'))} %"),
    ]
    if view.compared:
        orders = len(result.streams[adapter].order)
        rows += [
            ("test-time method", adapter),
            ("accuracy after refinement", f"{percent(result.accuracies(adapter))} %"),
            ("gain of refinement", f"{percent(result.gains(adapter))} points"),
            info.stream_row(len(view.inspection.order), orders),
        ]
    shown = ", ".join(f"{name} {error:.1f}" for name, error in errors.items())
    rows.append(("calibration error (ECE)", f"{shown} points, first order"))
    encoder = (result.training.get("encoder") or {}).get("val_accuracy")
    if encoder is not None:
        rows.append(("encoder accuracy, seen validation clips", f"{100 * encoder:.1f} %"))
    return rows
