"""The page of one run: its pictures, its summary, and a viewer of every clip."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynapurls_jax.evaluation import run_figures
from dynapurls_jax.evaluation.figures import plot_running_accuracy
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.metrics import calibration
from dynapurls_jax.evaluation.page.viewer import Clips, Figure, Page, viewer_data, write_html
from dynapurls_jax.evaluation.report import ReportInfo, RunResult, page_name, percent

SYNTHETIC = (
    "SYNTHETIC clips by forward kinematics: these figures show that the software works, and say "
    "nothing about people."
)


def write_run_page(folder: Path, result: RunResult, clips: Clips, info: ReportInfo) -> Path:
    """Writes `<split>-seed<k>.html`, and its pictures into `<split>-seed<k>/`.

    Args:
      result: with its inspection.
      clips: of the inspection's samples.

    Returns:
      The page.
    """
    assert result.inspection is not None
    path = folder / page_name(result)
    pictures = path.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    view = RunView(pictures, result, result.inspection, clips, info)
    page = Page(
        title=f"{view.title}: static and {info.adapter}",
        warning=SYNTHETIC if info.corpus.synthetic else "",
        command=info.command,
        summary=summary_of(view),
        figures=draw_all(view),
    )
    write_html(path, page, viewer_data(result.class_names, view.labels, view.inspection, clips))
    return path


@dataclass(frozen=True)
class RunView:
    """One run as its page shows it.

    Attributes:
      folder: of the pictures.
    """

    folder: Path
    result: RunResult
    inspection: Inspection
    clips: Clips
    info: ReportInfo

    @property
    def title(self) -> str:
        """The data and the run."""
        return f"{self.info.data}, {self.result.split}, seed {self.result.seed}"

    @property
    def labels(self) -> np.ndarray:
        """The true classes of the inspection's samples."""
        return self.result.labels[self.inspection.samples]

    @property
    def probabilities(self) -> dict[str, np.ndarray]:
        """Of the static and of the adapted model."""
        return {"static": self.inspection.static, self.info.adapter: self.inspection.adapted}


def summary_of(view: RunView) -> list[tuple[str, str]]:
    """What was measured, on which data, how."""
    result, info, adapter = view.result, view.info, view.info.adapter
    config = info.config
    static, adapted = (
        100 * calibration(p.max(axis=1), p.argmax(axis=1) == view.labels).error
        for p in (view.inspection.static, view.inspection.adapted)
    )
    encoder = (result.training.get("encoder") or {}).get("val_accuracy")
    orders = len(result.streams[adapter].order)
    return [
        ("data", f"{info.corpus.name}, protocol {config.data.protocol or 'the usual one'}"),
        ("split", f"{result.split}: {result.classes} unseen classes, {len(result.labels)} clips"),
        ("clips of a stream", str(len(view.inspection.order))),
        ("training seed", str(result.seed)),
        ("method, text", f"{info.method}, {config.text.encoder}"),
        ("chance", f"{100 / result.classes:.1f} %"),
        ("static accuracy", f"{percent(result.accuracies('static'))} % (std over orders)"),
        (
            f"{adapter}, {orders} {config.eval.stream} orders",
            f"{percent(result.accuracies(adapter))} % (std over orders)",
        ),
        ("gain", f"{percent(result.gains(adapter))} points"),
        (
            "calibration error (ECE)",
            f"static {static:.1f}, {adapter} {adapted:.1f} points (first order)",
        ),
        (
            "seen validation accuracy of the encoder",
            "not trained here" if encoder is None else f"{100 * encoder:.1f} %",
        ),
    ]


def draw_all(view: RunView) -> list[Figure]:
    """All pictures of a run, in the page's order; those without data are left out."""
    figures = draw_accuracy(view)
    if view.inspection.features is not None and view.inspection.class_vectors is not None:
        figures += draw_tsne(view, view.inspection.features, view.inspection.class_vectors)
    if view.inspection.attention is not None and view.clips.joints is not None:
        figures.append(draw_attention(view, view.inspection.attention))
    return figures


def draw_accuracy(view: RunView) -> list[Figure]:
    """Accuracy along the stream, by pairs of classes, by class, and by confidence."""
    result, adapter, names, title = (
        view.result,
        view.info.adapter,
        view.result.class_names,
        view.title,
    )
    running = Figure(
        view.folder / "running_accuracy.png",
        "Accuracy along the stream",
        f"Lines: mean over the stream orders, bands: their range. Static and {adapter}.",
    )
    plot_running_accuracy([result], adapter, title, running.path)
    confusion = Figure(
        view.folder / "confusion.png",
        "Confusion before and after (Fig. 9)",
        "In % of the true class; the first stream order.",
    )
    predicted = {name: values.argmax(axis=1) for name, values in view.probabilities.items()}
    run_figures.plot_confusion(view.labels, predicted, names, title, confusion.path)
    classes = Figure(
        view.folder / "classes.png",
        "Change class by class (Fig. 8)",
        "Means over the stream orders; static to refined accuracy beside each bar.",
    )
    before, after = result.per_class("static"), result.per_class(adapter)
    run_figures.plot_class_changes(before, after, names, title, classes.path)
    reliability = Figure(
        view.folder / "reliability.png",
        "Reliability",
        "Accuracy in ten bins of confidence; the dotted line is perfect calibration. ECE: expected "
        "calibration error.",
    )
    run_figures.plot_reliability(view.labels, view.probabilities, title, reliability.path)
    return [running, confusion, classes, reliability]


def draw_tsne(view: RunView, features: np.ndarray, class_vectors: np.ndarray) -> list[Figure]:
    """Figures 2 and 10, of one embedding."""
    count = min(len(features), run_figures.MAX_POINTS)
    shown = np.unique(np.linspace(0, len(features) - 1, count).astype(int))
    points, stars = run_figures.embed(features[shown], class_vectors)
    last = len(stars) - 1
    parts = {
        f"after {number} of {last} parts" if number else "before the stream": placed
        for number, placed in enumerate(stars)
    }
    figures = [
        Figure(
            view.folder / "tsne.png",
            "Features and classes before and after (Fig. 2)",
            "t-SNE of the clips' projected global vectors and of the classes' (cosine distance). "
            "Only the classes move.",
        ),
        Figure(
            view.folder / "tsne_stages.png",
            "Features and classes part by part (Fig. 10)",
            f"The same embedding: the classes' vectors after each of {last} parts of the stream.",
        ),
    ]
    labels, names = view.labels[shown], view.result.class_names
    ends = {"before": stars[0], "after": stars[-1]}
    for figure, panels in zip(figures, (ends, parts), strict=True):
        samples = run_figures.Samples(points, labels)
        run_figures.plot_tsne(samples, panels, names, view.title, figure.path)
    return figures


def draw_attention(view: RunView, attention: np.ndarray) -> Figure:
    """Figure 5, on the clip of the static model's highest confidence; needs clips with joints."""
    n = int(view.inspection.static.max(axis=1).argmax())
    clips, path = view.clips, view.folder / "attention.png"
    person = clips.clip(n)[0]
    person = person[np.any(person != 0, axis=(1, 2))]
    name = view.result.class_names[view.labels[n]]
    title = f"{view.title}\n{name} ({clips.ids[n]})\nquery: {clips.query}"
    run_figures.plot_attention(person, attention[n], clips.skeleton, title, path)
    return Figure(
        path,
        "Where each description looks (Fig. 5)",
        f"Attention (query: {clips.query}) on the joints of the clip of the static model's highest "
        "confidence, over time: from the weakest token (small, light) to the strongest (large, "
        "dark). It changes between the segments of time that the encoder keeps.",
    )
