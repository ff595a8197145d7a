"""Results of several runs as JSON, Markdown and a figure."""

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
    "SYNTHETIC clips by forward kinematics: these figures test the software and are no results on "
    "human motion."
)

BEFORE_AND_AFTER = (
    "Predictions before refinement are those of the trained model. After refinement, the model has "
    "been adapted to the earlier clips of the stream, without their true actions."
)


@dataclass(frozen=True)
class ReportInfo:
    """Information that all results of a report share.

    Attributes:
      command: the user's command line.
    """

    config: ConfigDict
    corpus: Corpus
    command: str

    @property
    def method(self) -> str:
        """The zero-shot method, as "purls (label_free)"."""
        return method_title(self.config)

    @property
    def adapter(self) -> str:
        """The test-time method."""
        return self.config.adapter.name

    @property
    def data(self) -> str:
        """The dataset, marked if it is synthetic."""
        return f"{self.corpus.name}, {self.mark}" if self.mark else self.corpus.name

    @property
    def mark(self) -> str:
        """The mark of figures of synthetic data; "" for other data."""
        return "SYNTHETIC data" if self.corpus.synthetic else ""

    def rows(self, split: str, seed: int) -> list[tuple[str, str]]:
        """Rows of the details of a page: data and methods.

        Args:
          split: the split in words.
        """
        protocol = self.config.data.protocol or "default"
        return [
            ("data", f"{self.corpus.name}, {protocol} protocol"),
            ("split", split),
            ("training seed", str(seed)),
            ("zero-shot method", self.method),
            ("text encoder", self.config.text.encoder),
        ]

    def stream_row(self, clips: int, orders: int) -> tuple[str, str]:
        """The row of the details of a page about its streams.

        Args:
          clips: number of clips of a stream.
          orders: number of stream orders.
        """
        return (
            "stream",
            f"{self.config.eval.stream}, {clips} clips; mean ± std over {orders} orders; this page "
            "shows the first",
        )

    def record(self) -> dict[str, Any]:
        """The information as JSON values."""
        return {
            "command": self.command,
            "dataset": self.corpus.name,
            "synthetic": self.corpus.synthetic,
            "method": self.method,
            "adapter": self.adapter,
        }


@dataclass(frozen=True)
class RunResult:
    """Predictions and labels of one split and seed.

    Attributes:
      class_names: names of the candidates.
      labels: true indices into `class_names`, `[N]`, in corpus order.
      streams: test-time method to its predictions, among them "static"; empty with `oracle`.
      oracle: hit rate of the published protocol in [0, 1]; None for a zero-shot method.
      training: results of the training stages.
      inspection: inspection of the first stream order; None with `oracle`.
      diagnosis: name to value (`evaluation.diagnosis`); empty with `oracle`.
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
        """Accuracy of each stream order, in [0, 1]."""
        labels = self.stream_labels(method)
        return [accuracy(p, y) for p, y in zip(self.streams[method].predicted, labels, strict=True)]

    def gains(self, method: str) -> np.ndarray:
        """Gain over the static model in each order `[orders]`, on the same samples."""
        return np.array(self.accuracies(method)) - np.array(self.accuracies("static"))

    def per_class(self, method: str) -> np.ndarray:
        """Accuracy of each class over all orders, `[C]` in [0, 1]; NaN without clips."""
        predicted = self.streams[method].predicted
        return per_class_accuracy(predicted, self.stream_labels(method), self.classes)

    def record(self) -> dict[str, Any]:
        """The result as JSON values."""
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
    """Writes report.json, report.md and running_accuracy.png to `folder`.

    The linked pages are written by `run_page`.

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


def overview(markdown: str) -> str:
    """The part of a report for the terminal: title, command and table, without its sections."""
    return markdown.split("\n## ")[0].rstrip()


def page_name(split: str, seed: int) -> str:
    """The file name of a run's page, in the folder of report.md."""
    return f"{split or 'all'}-seed{seed}.html"


def page_links(results: Iterable[Any]) -> list[str]:
    """The section of report.md with links to the pages, as lines of Markdown."""
    links = [
        f"- [{escaped(run.split)}, seed {run.seed}]({quote(page_name(run.split, run.seed))})"
        for run in results
    ]
    return ["", "## Pages of the runs", "", *links]


def by_split(results: Iterable[Any]) -> dict[str, list[Any]]:
    """Groups results by split, in order of appearance."""
    groups: dict[str, list[Any]] = {}
    for result in results:
        groups.setdefault(result.split, []).append(result)
    return groups


def only_split(results: Iterable[Any]) -> list[str]:
    """The split, for a title, if there is only one; otherwise an empty list."""
    splits = list(by_split(results))
    return splits if len(splits) == 1 else []


def percent(values) -> str:
    """`mean ± std` in percent of values in [0, 1]."""
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
        lines.append("Every sample passed the confidence threshold: it has no effect here.")
    columns = ["split", "unseen", "clips", "seeds x orders", "chance", "static"]
    if compared:
        columns += [adapter, "gain", "worse by > 1 point", "admitted to memory"]
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
        f"**{ORACLE}**: labels of the unseen test clips are used, as in published code. The hit "
        "rate of this protocol is not an accuracy.",
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
    """A table with a row for each measure and a column for each split."""
    groups, measures = by_split(results), list(results[0].diagnosis)
    lines = [
        "",
        "## Diagnosis",
        "",
        f"Mean ± std over seeds, on at most {MAX_CLIPS} unseen test clips of a run. {ORACLE}: "
        "cross-validated accuracy of the nearest clip (1-NN) and of the nearest class mean, with "
        "the true labels of the other clips. It measures how well tokens separate the unseen "
        "classes and is not a zero-shot accuracy.",
    ]
    if not all(name.startswith(ORACLE) for name in measures):
        lines.append(
            "The cosine between the rows of different granularities is 1 if all rows are equal; "
            "the entropy is 1 if attention is uniform."
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
