"""Results of several runs as JSON, Markdown and a picture."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from ml_collections import ConfigDict

from data_pipelines.atomic import write_text
from data_pipelines.corpus import Corpus
from dynapurls_jax.evaluation.diagnosis import MAX_CLIPS
from dynapurls_jax.evaluation.figures import plot_running_accuracy
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.markdown import escaped
from dynapurls_jax.evaluation.metrics import accuracy, mean_std, per_class_accuracy
from dynapurls_jax.evaluation.streams import Streams
from dynapurls_jax.evaluation.tasks import ORACLE
from dynapurls_jax.evaluation.trained_run import method_title

SYNTHETIC = (
    "SYNTHETIC clips by forward kinematics: these figures show that the software works, and say "
    "nothing about people."
)

BEFORE_AND_AFTER = (
    "Before refinement, it answers as it was trained; after refinement, it has also learned from "
    "the earlier clips of the stream, without their true actions."
)


@dataclass(frozen=True)
class ReportInfo:
    """What the results of a report have in common.

    Attributes:
      command: what the user typed.
    """

    config: ConfigDict
    corpus: Corpus
    command: str

    @property
    def method(self) -> str:
        """The zero-shot method, "purls (label_free)"."""
        return method_title(self.config)

    @property
    def adapter(self) -> str:
        """The test-time method."""
        return self.config.adapter.name

    @property
    def data(self) -> str:
        """The dataset, marked if it is synthetic."""
        name = self.corpus.name
        return f"{name}, SYNTHETIC data" if self.corpus.synthetic else name

    def rows(self, split: str, seed: int) -> list[tuple[str, str]]:
        """What a run's page says of its data and methods.

        Args:
          split: in words.
        """
        protocol = self.config.data.protocol or "usual"
        return [
            ("data", f"{self.corpus.name}, {protocol} protocol"),
            ("split", split),
            ("training seed", str(seed)),
            ("zero-shot method", self.method),
            ("text encoder", self.config.text.encoder),
        ]

    def stream_row(self, clips: int, orders: int) -> tuple[str, str]:
        """What a run's page says of its streams.

        Args:
          clips: of one stream.
        """
        return (
            "stream",
            f"{self.config.eval.stream}, {clips} clips; mean ± std over {orders} orders; this page "
            "plays the first",
        )

    def record(self) -> dict[str, Any]:
        """As plain JSON-able values."""
        return {
            "command": self.command,
            "dataset": self.corpus.name,
            "synthetic": self.corpus.synthetic,
            "method": self.method,
            "adapter": self.adapter,
        }


@dataclass(frozen=True)
class RunResult:
    """One split and seed: predictions, and what is needed to judge them.

    Attributes:
      class_names: of the candidates, in the order of predictions.
      labels: true positions in `class_names`, `[N]`, in corpus order.
      streams: test-time method to its predictions; with "static", unless `oracle`.
      oracle: hit rate of the published protocol; None for a zero-shot method.
      training: results of the training stages.
      inspection: of the adapted stream in its first order; None with `oracle`.
      diagnosis: what the run has learned, name to value; empty with `oracle`.
    """

    split: str
    seed: int
    class_names: tuple[str, ...]
    labels: np.ndarray
    streams: dict[str, Streams]
    oracle: float | None
    training: dict[str, Any]
    inspection: Inspection | None = None
    diagnosis: dict[str, float] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of candidates."""
        return len(self.class_names)

    def stream_labels(self, method: str) -> np.ndarray:
        """True labels in the order of each stream, `[orders, N]`."""
        return self.labels[self.streams[method].order]

    def accuracies(self, method: str) -> list[float]:
        """Accuracy of each stream order."""
        labels = self.stream_labels(method)
        return [accuracy(p, y) for p, y in zip(self.streams[method].predicted, labels, strict=True)]

    def gains(self, method: str) -> np.ndarray:
        """Gain over the static model in each order, on the same samples."""
        return np.array(self.accuracies(method)) - np.array(self.accuracies("static"))

    def per_class(self, method: str) -> np.ndarray:
        """Accuracy of each class over all orders."""
        predicted = self.streams[method].predicted
        return per_class_accuracy(predicted, self.stream_labels(method), self.classes)

    def record(self) -> dict[str, Any]:
        """As plain JSON-able values."""
        methods = {}
        for name, streams in self.streams.items():
            per_class = self.per_class(name)
            methods[name] = {
                "accuracy_of_each_order": self.accuracies(name),
                "accuracy_of_each_class": {
                    n: None if np.isnan(a) else float(a)
                    for n, a in zip(self.class_names, per_class, strict=True)
                },
                "share_admitted": float(streams.admitted.mean()),
                "share_adapted": float(streams.adapted.mean()),
            }
        return {
            "split": self.split,
            "seed": self.seed,
            "candidates": self.classes,
            "clips": len(self.labels),
            "chance": 1 / self.classes,
            "methods": methods,
            f"{ORACLE}_hit_rate_not_an_accuracy": self.oracle,
            "diagnosis": self.diagnosis,
            "training": self.training,
        }


def write_report(folder: Path, results: Sequence[RunResult], info: ReportInfo) -> str:
    """Writes report.json, report.md and running_accuracy.png into `folder`.

    `run_page` writes the pages that report.md links to.

    Returns:
      The Markdown.
    """
    lines = [f"# {info.data}: unseen classes, {info.method}", "", f"`{info.command}`", ""]
    if info.corpus.synthetic:
        lines += [SYNTHETIC, ""]
    folder.mkdir(parents=True, exist_ok=True)
    if any(result.oracle is not None for result in results):
        lines += _oracle_table(results)
    else:
        lines += _table(results, info.adapter) + _per_class(results, info.adapter)
        lines += _diagnosis(results)
        picture = folder / "running_accuracy.png"
        title = ", ".join([info.data, *only_split(results), info.method])
        plot_running_accuracy(results, info.adapter, title, picture)
        lines += ["", f"![running accuracy]({picture.name})", *page_links(results)]
    return write_files(folder, info.record() | {"runs": [r.record() for r in results]}, lines)


def write_files(folder: Path, record: dict[str, Any], lines: Iterable[str]) -> str:
    """Writes report.json and report.md; returns the Markdown."""
    text = "\n".join(lines) + "\n"
    write_text(folder / "report.json", json.dumps(record, indent=1))
    write_text(folder / "report.md", text)
    return text


def page_name(split: str, seed: int) -> str:
    """The file of a run's own page, beside report.md."""
    return f"{split or 'all'}-seed{seed}.html"


def page_links(results: Iterable[Any]) -> list[str]:
    """A section of report.md: links to the pages."""
    links = [
        f"- [{escaped(run.split)}, seed {run.seed}]({quote(page_name(run.split, run.seed))})"
        for run in results
    ]
    return ["", "## Clip by clip", "", *links]


def by_split(results: Iterable[Any]) -> dict[str, list[Any]]:
    """Groups results by split, in order of appearance."""
    groups: dict[str, list[Any]] = {}
    for result in results:
        groups.setdefault(result.split, []).append(result)
    return groups


def only_split(results: Iterable[Any]) -> list[str]:
    """The split, for a title; none where there are several."""
    splits = list(by_split(results))
    return splits if len(splits) == 1 else []


def percent(values) -> str:
    """Shares as `mean ± std` in percent."""
    mean, std = mean_std(values)
    return f"{100 * mean:.1f} ± {100 * std:.1f}"


def _table(results: Sequence[RunResult], adapter: str) -> list[str]:
    groups, compared = by_split(results), adapter != "static"
    measure = "Top-1 accuracy in %, mean ± std over seeds"
    if compared:
        measure += f" (static) and over seeds x stream orders ({adapter}); the gain is paired"
    lines = [f"{measure}."]
    if adapter == "dynapurls" and any(
        all(run.streams[adapter].admitted.all() for run in runs) for runs in groups.values()
    ):
        lines.append("The confidence threshold let every sample pass: it filters nothing here.")
    columns = ["split", "unseen", "clips", "seeds x orders", "chance", "static"]
    if compared:
        columns += [adapter, "gain", "hurt by > 1 point", "admitted to memory"]
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for split, runs in groups.items():
        statics = [np.mean(run.accuracies("static")) for run in runs]
        adapted = [run.accuracies(adapter) for run in runs]
        cells = [
            *(escaped(split), str(runs[0].classes), str(len(runs[0].labels))),
            *(f"{len(runs)} x {len(adapted[0])}", f"{100 / runs[0].classes:.1f}"),
            percent(statics),
        ]
        if compared:
            gains = np.concatenate([run.gains(adapter) for run in runs])
            admitted = np.mean([run.streams[adapter].admitted.mean() for run in runs])
            cells += [percent(np.concatenate(adapted)), percent(gains)]
            cells += [f"{100 * np.mean(gains < -0.01):.0f} %", f"{100 * admitted:.0f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _oracle_table(results: Sequence[RunResult]) -> list[str]:
    lines = [
        f"**{ORACLE}**: the queries are built from the true label, as in the published code. This "
        "is not an accuracy; it shows what that protocol is worth.",
        "",
        f"| split | unseen | clips | seeds | chance | {ORACLE} hit rate |",
        "|---|---|---|---|---|---|",
    ]
    for split, runs in by_split(results).items():
        rates = percent([run.oracle for run in runs])
        lines.append(
            f"| {escaped(split)} | {runs[0].classes} | {len(runs[0].labels)} | {len(runs)} | "
            f"{100 / runs[0].classes:.1f} | {rates} ({ORACLE}) |"
        )
    return lines


def _per_class(results: Sequence[RunResult], adapter: str) -> list[str]:
    methods = list(dict.fromkeys(["static", adapter]))
    heads = ["split", "class", *methods]
    lines = ["", "## Per class", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for split, runs in by_split(results).items():
        columns = [np.mean([run.per_class(method) for run in runs], axis=0) for method in methods]
        for name, *values in zip(runs[0].class_names, *columns, strict=True):
            shown = ["no clips" if np.isnan(value) else f"{100 * value:.1f}" for value in values]
            lines.append(f"| {escaped(split)} | {escaped(name)} | {' | '.join(shown)} |")
    return lines


def _diagnosis(results: Sequence[RunResult]) -> list[str]:
    """A row for each measure of the method, a column for each split."""
    groups, measures = by_split(results), list(results[0].diagnosis)
    lines = [
        "",
        "## What the model has learned",
        "",
        f"Mean ± std over seeds, of at most {MAX_CLIPS} unseen test clips of a run. {ORACLE}: the "
        "share of clips whose nearest clip (1-NN) or nearest class mean is of their own class, by "
        "the true labels of the other clips. It shows what the tokens tell apart and is no "
        "zero-shot accuracy.",
    ]
    if not all(name.startswith(ORACLE) for name in measures):
        lines.append(
            "The cosine between the rows of different granularities is 1 where all are one vector; "
            "the entropy is 1 where attention is even."
        )
    lines += [
        "",
        f"| measure | {' | '.join(map(escaped, groups))} |",
        "|---|" + "---|" * len(groups),
    ]
    for name in measures:
        found = [mean_std([run.diagnosis[name] for run in runs]) for runs in groups.values()]
        lines.append(f"| {name} | {' | '.join(f'{mean:.3f} ± {std:.3f}' for mean, std in found)} |")
    return lines
