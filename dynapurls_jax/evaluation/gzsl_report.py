"""Generalised zero-shot results of several runs as JSON, Markdown and a picture of the gates."""

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

NO_GATE = ("none", "static")  # the static model among all classes
STATIC_ROWS = ("static", "Baseline")  # the same in every stream order
NAMES = {
    "none": "none",
    "entropy": "entropy (eq. 17)",
    "energy": "energy",
    "stacking": "calibrated stacking",
    "logistic": "logistic (SynSE)",
}


@dataclass(frozen=True)
class GzslResult:
    """One split and seed. All class ids are the corpus's own.

    Attributes:
      seen: whether a class is seen, `[C]`.
      class_ids: of the classes that are predicted, seen and unseen; ascending.
      labels: true class ids, `[N]`: test clips of seen classes, then of unseen ones.
      scores: gate name to its scores, `[N]`.
      order: of each stream, indices into the clips, `[orders, N]`.
      predicted: gate name and row of `table_9`, and `NO_GATE`, to class ids, `[orders, N]`.
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
        """The number of classes that are predicted."""
        return len(self.class_ids)

    @property
    def is_unseen(self) -> np.ndarray:
        """Of each clip, whether its class is unseen, `[N]`."""
        return ~self.seen[self.labels]

    def accuracies(self, gate: str, row: str) -> list[Generalised]:
        """S, U and H of each stream order."""
        return [
            generalised_accuracy(predicted, self.labels[order], self.seen)
            for predicted, order in zip(self.predicted[gate, row], self.order, strict=True)
        ]

    def auroc(self, gate: str) -> float:
        """How often an unseen test clip scores above a seen one; for the report alone."""
        return float(roc_auc_score(self.is_unseen, self.scores[gate]))

    def operating_point(self, gate: str) -> tuple[float, float]:
        """The shares of seen and of unseen clips on the unseen side."""
        sent = self.scores[gate] > self.gates[gate].threshold
        return float(sent[~self.is_unseen].mean()), float(sent[self.is_unseen].mean())

    def record(self) -> dict[str, Any]:
        """As plain JSON-able values."""
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
Seeds = Mapping[str, Sequence[int]]  # split to those of the pseudo runs behind its fits


def write_gzsl_report(
    folder: Path, results: Sequence[GzslResult], fits: Fits, seeds: Seeds, info: ReportInfo
) -> str:
    """Writes report.json, report.md and gate_roc.png into `folder`; returns the Markdown.

    `gzsl_page` writes the pages that report.md links to.
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
        "S and U: top-1 accuracy in % of the test clips of seen and of unseen classes, each among "
        "all classes; H: their harmonic mean. Mean ± std over seeds (static methods) and over "
        "seeds x stream orders.",
        f"Baseline: static on both sides of the gate. Partial: {adapter} on the seen side. "
        f"Full: {adapter} on both, each with a state of its own.",
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
        "A sample with a score above the threshold is sent to the unseen side. Two numbers are "
        "fitted on the named pseudo split, for the highest H of its static models: the score's "
        "temperature, and the share of held-out seen clips that stays on the seen side. Each run's "
        "threshold keeps that share of its own held-out seen clips. The weights of the logistic "
        "gate are fitted on the same clips, its two numbers on clips held out in turn. The pseudo "
        "split's unseen classes are taken from the seen ones: no test clip and no unseen class "
        "takes part.",
        "AUROC and the shares sent to the unseen side are those of the test stream (mean ± std "
        "over seeds); nothing was chosen by them.",
        "",
        "| split | gate | fitted on | seeds | held-out seen + pseudo-unseen clips | temperature | "
        "seen kept, % | H there, % | threshold | AUROC, % | seen sent to unseen, % | "
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
