"""The page of one generalised zero-shot run: seen and unseen classes, with one of the gates."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from dynapurls_jax.evaluation.figures import plot_gate_roc
from dynapurls_jax.evaluation.gzsl import TABLE_9
from dynapurls_jax.evaluation.gzsl_report import NAMES, NO_GATE, GzslResult
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.page.viewer import Clips, Figure, Page, viewer_data, write_html
from dynapurls_jax.evaluation.report import (
    BEFORE_AND_AFTER,
    SYNTHETIC,
    ReportInfo,
    page_name,
    percent,
)


def write_gzsl_page(
    folder: Path,
    result: GzslResult,
    gate: str,
    inspection: Inspection,
    clips: Clips,
    info: ReportInfo,
) -> Path:
    """Writes `<split>-seed<k>.html`, and its figure to `<split>-seed<k>/`.

    Args:
      gate: name of the gate of the page.
      inspection: predictions with that gate, for the classes `result.class_ids`.
      clips: the clips of the inspection's samples.

    Returns:
      The path of the page.
    """
    path = folder / page_name(result.split, result.seed)
    picture = path.with_suffix("") / "gate_roc.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    plot_gate_roc([result], NAMES, info.mark, picture)
    unseen, classes = result.candidates - int(result.seen.sum()), result.class_ids
    page = Page(
        title=f"{info.data}: {int(result.seen.sum())} seen and {unseen} unseen actions together",
        lead=lead_of(info),
        warning=SYNTHETIC if info.corpus.synthetic else "",
        command=info.command,
        facts=facts_of(result, gate, info),
        summary=summary_of(result, gate, info),
        figures=[
            Figure(
                picture,
                "ROC of the gates",
                "Detection of unseen actions on the test clips. Markers: operating points, fitted "
                "on other clips.",
            )
        ],
    )
    names = [info.corpus.class_names[c] + ("" if result.seen[c] else " (unseen)") for c in classes]
    labels = np.searchsorted(classes, result.labels[inspection.samples])
    compared = info.adapter != "static"
    notes = notes_of(result, gate, inspection)
    write_html(path, page, viewer_data(names, labels, inspection, clips, compared, notes))
    return path


def lead_of(info: ReportInfo) -> str:
    """The introduction of the page for a new reader."""
    start = (
        "Each clip shows an action of the training data (seen) or an action that is given by text "
        "only (marked unseen). A gate first decides between seen and unseen; the model then "
        "chooses among the actions of that side."
    )
    return start if info.adapter == "static" else f"{start} {BEFORE_AND_AFTER}"


def notes_of(result: GzslResult, gate: str, inspection: Inspection) -> list[str]:
    """The decision of the gate for each clip, in words."""
    samples, threshold = inspection.samples, result.gates[gate].threshold
    scores, unseen = result.scores[gate][samples], result.is_unseen[samples]
    return [
        f"Gate: {'unseen' if sent else 'seen'} ({'right' if sent == truth else 'wrong'})."
        for sent, truth in zip(scores > threshold, unseen, strict=True)
    ]


def facts_of(result: GzslResult, gate: str, info: ReportInfo) -> list[tuple[str, str]]:
    """S, U and H for the head of the page, means over the stream orders."""
    before, after = (means_of(result, gate, row) for row in ("Baseline", "Full"))
    names = ("accuracy, seen actions", "accuracy, unseen actions", "harmonic mean of both (H)")
    if info.adapter == "static":
        return [(f"{100 * a:.1f} %", name) for a, name in zip(after, names, strict=True)]
    return [
        (f"{100 * b:.1f} → {100 * a:.1f} %", name)
        for b, a, name in zip(before, after, names, strict=True)
    ]


def means_of(result: GzslResult, gate: str, row: str) -> Float[np.ndarray, "3"]:
    """S, U and H of a row of Table 9, in [0, 1], means over the stream orders."""
    return np.mean(result.accuracies(gate, row), axis=0)


def summary_of(result: GzslResult, gate: str, info: ReportInfo) -> list[tuple[str, str]]:
    """Rows of the details: data, methods and measures."""
    seen, clips = int(result.seen.sum()), int(result.is_unseen.sum())
    split = f"{result.split}: {seen} seen and {result.candidates - seen} unseen classes"
    rows = [
        *info.rows(split, result.seed),
        ("clips", f"{len(result.labels) - clips} of seen and {clips} of unseen classes"),
        ("gate", f"{NAMES[gate]}, threshold {result.gates[gate].threshold:.4g}"),
        ("test-time method", info.adapter),
    ]
    rows_of_table = dict(
        zip(
            [NO_GATE, *((gate, row) for row in TABLE_9)],
            ["without a gate", "before refinement", "refined on the seen side", "refined on both"],
            strict=True,
        )
    )
    for key, name in rows_of_table.items():
        values = np.array(result.accuracies(*key)).T
        rows.append((f"S, U, H {name}", f"{', '.join(map(percent, values))} %"))
    orders, length = result.order.shape
    return [*rows, info.stream_row(length, orders)]
