"""The page of one generalised run: seen and unseen classes together, behind one of the gates."""

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
    """Writes `<split>-seed<k>.html`, and its picture into `<split>-seed<k>/`.

    Args:
      gate: name of the gate that the page is about.
      inspection: behind that gate; its classes are those that take part, in the corpus's order.
      clips: of the inspection's samples.

    Returns:
      The page.
    """
    path = folder / page_name(result.split, result.seed)
    picture = path.with_suffix("") / "gate_roc.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    plot_gate_roc([result], NAMES, f"{info.data}, {result.split}, seed {result.seed}", picture)
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
                "How well the gates tell unseen actions from seen ones",
                "ROC of each gate over the test clips; markers: operating points, which were "
                "fitted on other clips.",
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
    """What the page shows, for somebody who sees it for the first time."""
    start = (
        "Each clip shows an action from training (seen) or one that the model knows from text "
        "alone (marked unseen). A gate first decides which of the two it is; then the model "
        "chooses among the actions of that side."
    )
    return start if info.adapter == "static" else f"{start} {BEFORE_AND_AFTER}"


def notes_of(result: GzslResult, gate: str, inspection: Inspection) -> list[str]:
    """What the gate did with each clip."""
    samples, threshold = inspection.samples, result.gates[gate].threshold
    scores, unseen = result.scores[gate][samples], result.is_unseen[samples]
    return [
        f"Gate: {'unseen' if sent else 'seen'} ({'right' if sent == truth else 'wrong'})."
        for sent, truth in zip(scores > threshold, unseen, strict=True)
    ]


def facts_of(result: GzslResult, gate: str, info: ReportInfo) -> list[tuple[str, str]]:
    """S, U and H for the page's first lines, means over the stream orders."""
    before, after = (means_of(result, gate, row) for row in ("Baseline", "Full"))
    what = ("accuracy, seen actions", "accuracy, unseen actions", "harmonic mean of both (H)")
    if info.adapter == "static":
        return [(f"{100 * a:.1f} %", said) for a, said in zip(after, what, strict=True)]
    return [
        (f"{100 * b:.1f} → {100 * a:.1f} %", said)
        for b, a, said in zip(before, after, what, strict=True)
    ]


def means_of(result: GzslResult, gate: str, row: str) -> Float[np.ndarray, "3"]:
    """S, U and H of a row, means over the stream orders."""
    return np.mean(result.accuracies(gate, row), axis=0)


def summary_of(result: GzslResult, gate: str, info: ReportInfo) -> list[tuple[str, str]]:
    """What was measured, on which data, how."""
    seen, clips = int(result.seen.sum()), int(result.is_unseen.sum())
    split = f"{result.split}: {seen} seen and {result.candidates - seen} unseen classes"
    rows = [
        *info.rows(split, result.seed),
        ("clips", f"{len(result.labels) - clips} of seen and {clips} of unseen classes"),
        ("gate", f"{NAMES[gate]}, threshold {result.gates[gate].threshold:.4g}"),
        ("test-time method", info.adapter),
    ]
    said = dict(
        zip(
            [NO_GATE, *((gate, row) for row in TABLE_9)],
            ["without a gate", "before refinement", "refined on the seen side", "refined on both"],
            strict=True,
        )
    )
    for key, name in said.items():
        values = np.array(result.accuracies(*key)).T
        rows.append((f"S, U, H {name}", f"{', '.join(map(percent, values))} %"))
    orders, length = result.order.shape
    return [*rows, info.stream_row(length, orders)]
