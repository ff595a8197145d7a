"""Generalised zero-shot results of several runs as JSON, Markdown and a figure of the gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from data_pipelines.protocols import pseudo_split
from dynapurls_jax.adaptation.gated import Gate
from dynapurls_jax.evaluation.figures import plot_gate_roc
from dynapurls_jax.evaluation.gzsl import GateFit, Generalised, generalised_accuracy
from dynapurls_jax.evaluation.markdown import escaped
from dynapurls_jax.evaluation.report import (
    ReportInfo,
    by_split,
    only_split,
    page_links,
    percent,
    write_files,
)

NO_GATE = ("none", "static")  # the static model, all classes as candidates
STATIC_ROWS = ("static", "Baseline")  # rows that do not depend on the stream order
NAMES = {
    "none": "none",
    "entropy": "entropy (eq. 17)",
    "energy": "energy",
    "stacking": "calibrated stacking",
    "logistic": "logistic (SynSE)",
}


@dataclass(frozen=True)
class GzslResult:
    """The result of one split and seed. All class ids are those of the corpus.

    Attributes:
      seen: whether a class is seen, `[C]`.
      class_ids: ids of the seen and unseen classes, ascending.
      labels: true class ids, `[N]`, of the test clips of seen classes, then of unseen ones.
      gates: gate name to the gate of this run.
      scores: gate name to its scores, `[N]`.
      order: indices into the clips, `[orders, N]`, in stream order.
      predicted: predicted class ids, `[orders, N]`, by gate name and row of `table_9`; also for
        `NO_GATE`.
    """

    split: str
    seed: int
    seen: np.ndarray
    class_ids: np.ndarray
    labels: np.ndarray
    gates: dict[str, Gate]
    scores: dict[str, np.ndarray]
    order: np.ndarray
    predicted: dict[tuple[str, str], np.ndarray]

    @property
    def candidates(self) -> int:
        """The number of candidate classes."""
        return len(self.class_ids)

    @property
    def is_unseen(self) -> np.ndarray:
        """For each clip, whether its class is unseen, `[N]`."""
        return ~self.seen[self.labels]

    def accuracies(self, gate: str, row: str) -> list[Generalised]:
        """S, U and H of each stream order, in [0, 1]."""
        return [
            generalised_accuracy(predicted, self.labels[order], self.seen)
            for predicted, order in zip(self.predicted[gate, row], self.order, strict=True)
        ]

    def auroc(self, gate: str) -> float:
        """AUROC in [0, 1] of a gate's scores on the test clips; only reported, selects nothing."""
        return float(roc_auc_score(self.is_unseen, self.scores[gate]))

    def operating_point(self, gate: str) -> tuple[float, float]:
        """The shares of seen and of unseen clips that the gate sends to the unseen side."""
        sent = self.scores[gate] > self.gates[gate].threshold
        return float(sent[~self.is_unseen].mean()), float(sent[self.is_unseen].mean())

    def record(self) -> dict[str, Any]:
        """The result as JSON values."""
        gates = {}
        for name, gate in self.gates.items():
            false, true = self.operating_point(name)
            gates[name] = {
                "temperature": gate.temperature,
                "threshold": gate.threshold,
                "auroc": self.auroc(name),
                "seen_sent_to_unseen": false,
                "unseen_sent_to_unseen": true,
            }
        return {
            "split": self.split,
            "seed": self.seed,
            "candidates": self.candidates,
            "seen_clips": int((~self.is_unseen).sum()),
            "unseen_clips": int(self.is_unseen.sum()),
            "gates_on_test": gates,
            "accuracy_of_each_order": [
                {"gate": gate, "method": row, **found._asdict()}
                for gate, row in self.predicted
                for found in self.accuracies(gate, row)
            ],
        }


Fits = Mapping[str, Mapping[str, GateFit]]  # split and gate name to the fit
Seeds = Mapping[str, Sequence[int]]  # split to the seeds of the pseudo runs of its fits


def write_gzsl_report(
    folder: Path, results: Sequence[GzslResult], fits: Fits, seeds: Seeds, info: ReportInfo
) -> str:
    """Writes report.json, report.md and gate_roc.png to `folder`; returns the Markdown.

    The linked pages are written by `gzsl_page`.
    """
    groups = by_split(results)
    records = [
        {"split": split, "fitted_on": pseudo_split(split), "seeds": seeds[split]} | fit._asdict()
        for split in groups
        for fit in fits[split].values()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "gate_roc.png"
    title = ", ".join([info.data, *only_split(results), info.method])
    plot_gate_roc(results, NAMES, title, picture)
    lines = [
        f"# {info.data}: seen and unseen classes together, {info.method}",
        "",
        f"`{info.command}`",
        "",
        *_accuracy_table(groups, info.adapter),
        *_gate_table(groups, fits, seeds),
        "",
        f"![ROC of the gates]({picture.name})",
        *page_links(results),
    ]
    record = info.record() | {"fits": records, "runs": [result.record() for result in results]}
    return write_files(folder, record, lines)


def _accuracy_table(groups: dict[str, list[GzslResult]], adapter: str) -> list[str]:
    lines = [
        "S and U: top-1 accuracy in % on test clips of seen and of unseen classes, both among all "
        "classes; H: their harmonic mean. Mean ± std over seeds (static methods) or over "
        "seeds x stream orders.",
        f"Baseline: static on both sides of the gate. Partial: {adapter} on the seen side. "
        f"Full: {adapter} on both sides, with separate states.",
        "",
        "| split | seen + unseen | clips | seeds x orders | gate | method | S | U | H |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for split, runs in groups.items():
        first = runs[0]
        classes, clips = int(first.seen.sum()), int(first.is_unseen.sum())
        orders = len(first.order)
        start = (
            f"| {escaped(split)} | {classes} + {first.candidates - classes} | "
            f"{len(first.labels) - clips} + {clips} | {len(runs)} x {orders} |"
        )
        for gate, row in first.predicted:
            found = np.array([run.accuracies(gate, row) for run in runs])  # [seeds, orders, 3]
            values = found.mean(axis=1) if row in STATIC_ROWS else np.concatenate(found)
            shown = " | ".join(percent(column) for column in values.T)
            lines.append(f"{start} {NAMES[gate]} | {row} | {shown} |")
    return lines


def _gate_table(groups: dict[str, list[GzslResult]], fits: Fits, seeds: Seeds) -> list[str]:
    lines = [
        "",
        "## The gates",
        "",
        "A gate sends a sample with a score above the threshold to the unseen side. Two parameters "
        "are fitted on the pseudo split for the highest H of its static models: the temperature "
        "of the score, and the share of validation clips of seen classes that stays on the seen "
        "side. The threshold of a run keeps that share of its own validation clips. The weights of "
        "the logistic gate are fitted on the same clips, its two parameters by cross-validation. "
        "The unseen classes of a pseudo split are seen classes of the real split: no test clip and "
        "no unseen class is used.",
        "AUROC and the shares sent to the unseen side are measured on the test clips (mean ± std "
        "over seeds) and select nothing.",
        "",
        "| split | gate | fitted on | seeds | validation + pseudo-unseen clips | temperature | "
        "seen kept, % | H of the fit, % | threshold | AUROC, % | seen sent to unseen, % | "
        "unseen sent to unseen, % |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for split, runs in groups.items():
        pseudo_seeds = ", ".join(map(str, seeds[split]))
        for name, fit in fits[split].items():
            thresholds = ", ".join(f"{run.gates[name].threshold:.4g}" for run in runs)
            false, true = zip(*(run.operating_point(name) for run in runs), strict=True)
            lines.append(
                f"| {escaped(split)} | {NAMES[name]} | {escaped(pseudo_split(split))} | "
                f"{pseudo_seeds} | {fit.seen_clips} + {fit.unseen_clips} | {fit.temperature:g} | "
                f"{100 * fit.kept:.0f} | {100 * fit.harmonic:.1f} | {thresholds} | "
                f"{percent([run.auroc(name) for run in runs])} | {percent(false)} | "
                f"{percent(true)} |"
            )
    return lines
