"""Generalised zero-shot results of several runs as JSON, Markdown and a picture of the gates."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_pipelines.corpus import Corpus
from dynapurls_jax.adaptation.gated import Gate
from dynapurls_jax.evaluation.figures import plot_gate_roc
from dynapurls_jax.evaluation.gzsl import GateFit, Generalised, auroc, generalised_accuracy
from dynapurls_jax.evaluation.markdown import escaped
from dynapurls_jax.evaluation.report import percent

NO_GATE = ("none", "static")  # the static model among all classes
STATIC_ROWS = ("static", "Baseline")  # the same in every stream order
NAMES = {
    "none": "none",
    "entropy": "entropy (eq. 17)",
    "energy": "energy",
    "stacking": "calibrated stacking",
}


@dataclass(frozen=True)
class GzslResult:
    """One split and seed. All class ids are the corpus's own, those of seen and unseen alike.

    Attributes:
      seen: whether a class is seen, `[C]`.
      candidates: number of classes that are predicted, seen and unseen.
      labels: true class ids, `[N]`: test clips of seen classes, then of unseen ones.
      gates: gate name to the gate.
      scores: gate name to its scores, `[N]`.
      order: of each stream, indices into the clips, `[orders, N]`.
      predicted: gate name and row of `table_9`, and `NO_GATE`, to class ids, `[orders, N]`.
    """

    split: str
    seed: int
    seen: np.ndarray
    candidates: int
    labels: np.ndarray
    gates: dict[str, Gate]
    scores: dict[str, np.ndarray]
    order: np.ndarray
    predicted: dict[tuple[str, str], np.ndarray]

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
        """Of the gate on the test stream; for the report alone."""
        return auroc(self.scores[gate], self.is_unseen)

    def operating_point(self, gate: str) -> tuple[float, float]:
        """The shares of seen and of unseen clips that are sent to the unseen side."""
        sent = self.scores[gate] > self.gates[gate].threshold
        return float(sent[~self.is_unseen].mean()), float(sent[self.is_unseen].mean())

    def record(self) -> dict:
        """Everything as plain JSON-able values."""
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


def pseudo_split(split: str) -> str:
    """The split on whose runs the gates of a real split are fitted."""
    return f"pseudo-{split}-0"


def write_gzsl_report(
    folder: Path,
    results: list[GzslResult],
    fits: dict[str, dict[str, GateFit]],
    pseudo_seeds: dict[str, tuple[int, ...]],
    config: ConfigDict,
    corpus: Corpus,
    command: str,
) -> str:
    """Writes report.json, report.md and gate_roc.png into `folder`.

    Args:
      fits: split, then gate name, to the fit.
      pseudo_seeds: split to the seeds of the pseudo runs that its gates were fitted on.

    Returns:
      The Markdown.
    """
    query, adapter = config.alignment.query, config.eval.adapter
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[GzslResult]] = {}
    for result in results:
        groups.setdefault(result.split, []).append(result)
    record = {
        "command": command,
        "dataset": corpus.name,
        "synthetic": corpus.synthetic,
        "query": query,
        "adapter": adapter,
        "fits": [
            {"split": split, "fitted_on": pseudo_split(split), "seeds": pseudo_seeds[split]}
            | fit._asdict()
            for split in groups
            for fit in fits[split].values()
        ],
        "runs": [result.record() for result in results],
    }
    (folder / "report.json").write_text(json.dumps(record, indent=1))
    kind = f"{corpus.name}, SYNTHETIC data" if corpus.synthetic else corpus.name
    picture = folder / "gate_roc.png"
    plot_gate_roc(results, NAMES, f"{kind}, {query}", picture)
    lines = [
        f"# {kind}: seen and unseen classes together, query {query}",
        "",
        f"`{command}`",
        "",
        *_accuracy_table(groups, adapter),
        *_gate_table(groups, fits, pseudo_seeds),
        "",
        f"![ROC of the gates]({picture.name})",
    ]
    text = "\n".join(lines) + "\n"
    (folder / "report.md").write_text(text)
    return text


def _accuracy_table(groups: dict[str, list[GzslResult]], adapter: str) -> list[str]:
    rows = [
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
            rows.append(f"{start} {NAMES[gate]} | {row} | {shown} |")
    return rows


def _gate_table(
    groups: dict[str, list[GzslResult]],
    fits: dict[str, dict[str, GateFit]],
    pseudo_seeds: dict[str, tuple[int, ...]],
) -> list[str]:
    rows = [
        "",
        "## The gates",
        "",
        "A sample with a score above the threshold is sent to the unseen side. Two numbers were "
        "fitted on the named pseudo split, for the highest H of its static models: the score's "
        "temperature, and the share of held-out seen clips that stays on the seen side. Each run's "
        "threshold keeps that share of its own held-out seen clips. The pseudo split's unseen "
        "classes are left out of the seen ones: no test clip and no unseen class took part.",
        "AUROC and the shares sent to the unseen side are those of the test stream (mean ± std "
        "over seeds); nothing was chosen by them.",
        "",
        "| split | gate | fitted on | seeds | held-out seen + pseudo-unseen clips | temperature | "
        "seen kept, % | H there, % | threshold | AUROC, % | seen sent to unseen, % | "
        "unseen sent to unseen, % |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for split, runs in groups.items():
        seeds = ", ".join(map(str, pseudo_seeds[split]))
        for name, fit in fits[split].items():
            thresholds = ", ".join(f"{run.gates[name].threshold:.4g}" for run in runs)
            false, true = zip(*(run.operating_point(name) for run in runs), strict=True)
            rows.append(
                f"| {escaped(split)} | {NAMES[name]} | {escaped(pseudo_split(split))} | {seeds} | "
                f"{fit.seen_clips} + {fit.unseen_clips} | {fit.temperature:g} | "
                f"{100 * fit.kept:.0f} | {100 * fit.harmonic:.1f} | {thresholds} | "
                f"{percent([run.auroc(name) for run in runs])} | {percent(false)} | "
                f"{percent(true)} |"
            )
    return rows
