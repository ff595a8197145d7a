"""The page of one run: its pictures, its summary, and every clip to look at."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_pipelines.corpus import Corpus
from dynapurls_jax.evaluation import run_figures
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.figures import plot_running_accuracy
from dynapurls_jax.evaluation.metrics import calibration
from dynapurls_jax.evaluation.page import Clips, Figure, write_html
from dynapurls_jax.evaluation.report import RunResult, page_name, percent

SYNTHETIC = (
    "SYNTHETIC clips by forward kinematics: these figures show that the software works, and say "
    "nothing about people."
)


def write_run_page(
    folder: Path,
    result: RunResult,
    clips: Clips,
    corpus: Corpus,
    config: ConfigDict,
    command: str,
) -> Path:
    """Writes `<split>-seed<k>.html`, and its pictures into `<split>-seed<k>/`.

    Args:
      result: with details.
      clips: those of `result.details.samples`.

    Returns:
      The page.
    """
    path = folder / page_name(result)
    pictures = path.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    write_html(
        path,
        title=f"{title_of(result, corpus)}: static and {adapter(config)}",
        warning=SYNTHETIC if corpus.synthetic else "",
        command=command,
        summary=summary_of(result, corpus, config),
        names=result.class_names,
        labels=labels_of(result),
        details=details_in(result),
        clips=clips,
        figures=draw_all(pictures, result, clips, corpus, config),
    )
    return path


def title_of(result: RunResult, corpus: Corpus) -> str:
    """The data and the run."""
    kind = f"{corpus.name}, SYNTHETIC data" if corpus.synthetic else corpus.name
    return f"{kind}, {result.split}, seed {result.seed}"


def adapter(config: ConfigDict) -> str:
    """The method that the page is about."""
    return config.eval.adapter


def details_in(result: RunResult) -> Inspection:
    """The details, which must be there."""
    if result.details is None:
        raise ValueError(f"{result.split}, seed {result.seed}: expected a result with details")
    return result.details


def labels_of(result: RunResult) -> np.ndarray:
    """The true classes of the details' samples."""
    return result.labels[details_in(result).samples]


def summary_of(result: RunResult, corpus: Corpus, config: ConfigDict) -> list[tuple[str, str]]:
    """What was measured, on what, how."""
    details, name = details_in(result), adapter(config)
    errors = [
        calibration(p.max(axis=1), p.argmax(axis=1) == labels_of(result)).error
        for p in (details.static, details.adapted)
    ]
    encoder = (result.training.get("encoder") or {}).get("val_accuracy")
    learned = "not trained here" if encoder is None else f"{100 * encoder:.1f} %"
    orders = len(result.streams[name].order)
    return [
        ("data", f"{corpus.name}, protocol {config.data.protocol or 'the usual one'}"),
        ("split", f"{result.split}: {result.classes} unseen classes, {len(result.labels)} clips"),
        ("clips of a stream", str(len(details.order))),
        ("training seed", str(result.seed)),
        ("queries, text", f"{config.alignment.query}, {config.text.encoder}"),
        ("chance", f"{100 / result.classes:.1f} %"),
        ("static accuracy", f"{percent(result.accuracies('static'))} % (std over orders)"),
        (
            f"{name}, {orders} {config.eval.stream} orders",
            f"{percent(result.accuracies(name))} % (std over orders)",
        ),
        ("gain", f"{percent(result.gains(name))} points"),
        (
            "calibration error (ECE)",
            f"static {100 * errors[0]:.1f}, {name} {100 * errors[1]:.1f} points (first order)",
        ),
        ("seen validation accuracy of the encoder", learned),
    ]


def draw_all(
    folder: Path, result: RunResult, clips: Clips, corpus: Corpus, config: ConfigDict
) -> list[Figure]:
    """All pictures of a run, in the page's order."""
    details, name, names = details_in(result), adapter(config), result.class_names
    labels, both = labels_of(result), {"static": details.static, name: details.adapted}
    figures = [
        Figure(
            folder / "running_accuracy.png",
            "Accuracy along the stream",
            f"Lines: mean over the stream orders, bands: their range. Static and {name}.",
        ),
        Figure(
            folder / "confusion.png",
            "Confusion before and after (Fig. 9)",
            "In % of the true class; the first stream order.",
        ),
        Figure(
            folder / "classes.png",
            "Change class by class (Fig. 8)",
            "Means over the stream orders; static to refined accuracy beside each bar.",
        ),
        Figure(
            folder / "reliability.png",
            "Reliability",
            "Accuracy in ten bins of confidence; the dotted line is perfect calibration. ECE: "
            "expected calibration error.",
        ),
    ]
    title = title_of(result, corpus)
    plot_running_accuracy([result], name, title, figures[0].path)
    predicted = {method: values.argmax(axis=1) for method, values in both.items()}
    run_figures.plot_confusion(labels, predicted, names, title, figures[1].path)
    changes = (result.per_class("static"), result.per_class(name), names)
    run_figures.plot_class_changes(*changes, title, figures[2].path)
    run_figures.plot_reliability(labels, both, title, figures[3].path)
    figures += draw_tsne(folder, details, labels, names, title)
    if clips.joints is not None:
        figures.append(draw_attention(folder, details, labels, names, title, clips))
    return figures


def draw_tsne(folder: Path, details: Inspection, labels, names, title: str) -> list[Figure]:
    """Figures 2 and 10, of one embedding."""
    most = run_figures.MOST_POINTS
    shown = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), most)).astype(int))
    points, stars = run_figures.embed(details.features[shown], details.texts)
    last = len(stars) - 1
    stages = {
        f"after {number} of {last} parts" if number else "before the stream": placed
        for number, placed in enumerate(stars)
    }
    figures = [
        Figure(
            folder / "tsne.png",
            "Features and texts before and after (Fig. 2)",
            "t-SNE of the clips' projected global rows and the classes' vectors (cosine "
            "distance). Only the texts move.",
        ),
        Figure(
            folder / "tsne_stages.png",
            "Features and texts stage by stage (Fig. 10)",
            f"The same embedding: the classes' vectors after each of {last} parts of the stream.",
        ),
    ]
    ends = {"before": stars[0], "after": stars[-1]}
    for figure, texts in zip(figures, (ends, stages), strict=True):
        run_figures.plot_tsne(points, texts, labels[shown], names, title, figure.path)
    return figures


def draw_attention(
    folder: Path, details: Inspection, labels, names, title: str, clips: Clips
) -> Figure:
    """Figure 5, on the clip that the static model is surest of; needs clips with joints."""
    n = int(details.static.max(axis=1).argmax())
    path = folder / "attention.png"
    persons = clips.clip(n)
    there = np.any(persons[0] != 0, axis=(1, 2))
    title = f"{title}: {names[labels[n]]} ({clips.ids[n]}); asked by {clips.asks}"
    run_figures.plot_attention(persons[0][there], details.attention[n], clips.skeleton, title, path)
    return Figure(
        path,
        "Where each description looks (Fig. 5)",
        f"Attention, asked by {clips.asks}, on the joints of the clip that the static model is "
        "surest of, over time: from the weakest token (small, light) to the strongest (large, "
        "dark). It changes between the segments of time that the encoder keeps.",
    )
