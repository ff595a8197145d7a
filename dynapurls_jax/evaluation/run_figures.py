"""Figures of one run: Figures 2, 5, 8, 9 and 10 of the paper, and a reliability diagram."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix

from data_pipelines.progress import progress
from dynapurls_jax.evaluation.attention_figure import draw_attention
from dynapurls_jax.evaluation.figures import (
    ADAPTED_COLOUR,
    COLOURS,
    MARKERS,
    STATIC_COLOUR,
    panels,
    plot_running_accuracy,
    save,
    without_frame,
)
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.metrics import calibration
from dynapurls_jax.evaluation.page.viewer import Clips, Figure, attended_granularities
from dynapurls_jax.evaluation.report import ReportInfo, RunResult
from dynapurls_jax.text.granularities import GRANULARITIES

MAX_POINTS = 1000  # clips of a t-SNE; more overlap


@dataclass(frozen=True)
class RunView:
    """The data of a run's figures.

    Attributes:
      folder: folder of the figures.
      clips: the clips of the inspection's samples.
    """

    folder: Path
    result: RunResult
    inspection: Inspection
    clips: Clips
    info: ReportInfo

    @property
    def labels(self) -> np.ndarray:
        """The true labels of the inspection's samples, `[N]`."""
        return self.result.labels[self.inspection.samples]

    @property
    def compared(self) -> bool:
        """Whether a test-time method is compared with the static model."""
        return self.info.adapter != "static"

    @property
    def probabilities(self) -> dict[str, np.ndarray]:
        """Class probabilities `[N, C]` of the static and of the adapted model."""
        return {"static": self.inspection.static, self.info.adapter: self.inspection.adapted}

    def figure(self, drawn, name: str, title: str, caption: str) -> Figure:
        """Saves a matplotlib figure as `<name>.png`; the page has its title and caption."""
        path = self.folder / f"{name}.png"
        save(drawn, self.info.mark, path)
        return Figure(path, title, caption)


def draw_all(view: RunView) -> list[Figure]:
    """All figures of a run, in the order of the page; figures without data are omitted."""
    draw = [plot_running, plot_confusion, plot_class_changes, plot_reliability]
    if not view.compared:
        draw.remove(plot_class_changes)
    steps: list[Callable[[], Figure | list[Figure]]] = [partial(plot, view) for plot in draw]
    if view.inspection.features is not None and view.inspection.class_vectors is not None:
        vectors = view.inspection.features, view.inspection.class_vectors
        steps.append(partial(plot_both_tsne, view, *vectors))
    attended = attended_granularities(view.inspection.attention)
    if attended and view.clips.joints is not None:
        steps.append(partial(plot_attention, view, attended))
    figures: list[Figure] = []
    with progress("drawing figures", len(steps)) as report:
        for done, step in enumerate(steps, 1):
            drawn = step()
            figures += drawn if isinstance(drawn, list) else [drawn]
            report(done)
    return figures


def style(number: int) -> tuple[str, str]:
    """Colour and marker of a class; the marker changes when all colours are used."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def plot_running(view: RunView) -> Figure:
    """Running accuracy along the stream."""
    path = view.folder / "running_accuracy.png"
    plot_running_accuracy([view.result], view.info.adapter, view.info.mark, path)
    return Figure(
        path,
        "Accuracy along the stream",
        f"static: before refinement; {view.info.adapter}: after refinement. Lines: mean over the "
        "stream orders; bands: range."
        if view.compared
        else "Line: mean over the stream orders; band: range.",
    )


def plot_confusion(view: RunView) -> Figure:
    """Figure 9: confusion matrices in % of each true class."""
    names = view.result.class_names
    count = len(names)
    size = max(3.2, 0.34 * count + 0.6)
    words = 0.08 * max(map(len, names))  # inches of the longest name, along either axis
    parts = len(view.probabilities)
    figure, axes = panels(parts, (parts * size + words + 1.6, size + words + 1.3))
    for axis, (panel, values) in zip(axes, view.probabilities.items(), strict=True):
        predicted = values.argmax(axis=1)
        matrix = confusion_matrix(view.labels, predicted, labels=range(count)).astype(float)
        totals = matrix.sum(axis=1, keepdims=True)
        shares = 100 * np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (true, guess), share in np.ndenumerate(shares):
            if share >= 0.5 and count <= 25:
                colour = "white" if share > 55 else "black"
                place = {"ha": "center", "va": "center", "color": colour, "size": 7}
                axis.text(guess, true, f"{share:.0f}", **place)
        axis.set(title=panel, xlabel="predicted")
        axis.set_xticks(range(count), names, rotation=90, size=7)
        axis.set_yticks(range(count), names, size=7)
    axes[0].set_ylabel("true")
    figure.colorbar(image, ax=axes.tolist(), label="% of the true class", shrink=0.8)
    return view.figure(
        figure,
        "confusion",
        "Confusion matrices before and after refinement (Fig. 9)"
        if view.compared
        else "Confusion matrix",
        "In % of the true class, on the first stream order.",
    )


def plot_class_changes(view: RunView) -> Figure:
    """Figure 8: gain of each class, sorted; classes without clips are omitted."""
    names, adapter = view.result.class_names, view.info.adapter
    before, after = view.result.per_class("static"), view.result.per_class(adapter)
    change = 100 * (after - before)
    order = [c for c in np.argsort(-change) if not np.isnan(change[c])]
    figure, axis = plt.subplots(figsize=(7, 0.8 + 0.28 * len(order)), layout="constrained")
    for place, c in enumerate(order):
        gained = change[c] >= 0
        colour, hatch = (COLOURS[0], "") if gained else (COLOURS[1], "//")
        axis.barh(place, change[c], color=colour, hatch=hatch, edgecolor="white")
        axis.annotate(
            f"{100 * before[c]:.0f} to {100 * after[c]:.0f} %",
            (change[c], place),
            xytext=(4 if gained else -4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if gained else "right",
            size=7,
        )
    reach = 1.35 * max(10, np.abs(change[order]).max(initial=0))
    axis.set(xlim=(-reach, reach), xlabel="change of accuracy by refinement, points")
    axis.set_yticks(range(len(order)), [names[c] for c in order], size=8)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.invert_yaxis()
    without_frame(axis)
    return view.figure(
        figure,
        "classes",
        "Change of accuracy for each class (Fig. 8)",
        "Means over the stream orders. Each bar is labelled with the accuracies before and after "
        "refinement.",
    )


def plot_reliability(view: RunView) -> Figure:
    """Accuracy by confidence in ten bins, and the expected calibration error."""
    count = len(view.probabilities)
    figure, axes = panels(count, (3.6 * count, 3.8))
    colours = (STATIC_COLOUR, ADAPTED_COLOUR)[:count]
    for axis, (panel, values), colour in zip(
        axes, view.probabilities.items(), colours, strict=True
    ):
        found = calibration(values.max(axis=1), values.argmax(axis=1) == view.labels)
        middles = 100 * (np.arange(len(found.share)) + 0.5) / len(found.share)
        heights = 100 * np.nan_to_num(found.accuracy)
        axis.bar(middles, heights, width=9, color=colour, label="accuracy in the bin")
        for x, height, share in zip(middles, heights, found.share, strict=True):
            if share:
                place = {"ha": "center", "va": "bottom", "size": 7}
                axis.annotate(f"{100 * share:.0f}", (x, height), **place)
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, linestyle=":")
        title = f"{panel}: ECE {100 * found.error:.1f} points"
        axis.set(title=title, xlabel="confidence, %", xlim=(0, 100), ylim=(0, 108))
        without_frame(axis)
    axes[0].set_ylabel("accuracy, % (on the bars: % of clips)")
    return view.figure(
        figure,
        "reliability",
        "Reliability diagram",
        "Accuracy in ten bins of confidence; the dotted line is perfect calibration. ECE: expected "
        "calibration error.",
    )


def plot_both_tsne(
    view: RunView,
    features: Float[np.ndarray, "N e"],
    class_vectors: Float[np.ndarray, "parts C e"],
) -> list[Figure]:
    """Figures 2 and 10: a joint t-SNE of clips, and of the class vectors along the stream."""
    count = min(len(features), MAX_POINTS)
    shown = np.unique(np.linspace(0, len(features) - 1, count).astype(int))
    vectors = np.concatenate([features[shown], *class_vectors])
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0)
    points, stars = np.split(tsne.fit_transform(vectors), [len(shown)])
    stars = stars.reshape(*class_vectors.shape[:2], 2)
    last = len(stars) - 1
    parts = {
        f"after {number} of {last} parts" if number else "before the stream": placed
        for number, placed in enumerate(stars)
    }
    labels, names = view.labels[shown], view.result.class_names
    caption = "Projected global vectors of clips, and class vectors; cosine distance."
    if not view.compared:
        drawn = plot_tsne(points, labels, {"static": stars[0]}, names)
        return [view.figure(drawn, "tsne", "t-SNE of features and classes", caption)]
    return [
        view.figure(
            plot_tsne(points, labels, {"before": stars[0], "after": stars[-1]}, names),
            "tsne",
            "t-SNE of features and classes before and after refinement (Fig. 2)",
            f"{caption} Only the class vectors change.",
        ),
        view.figure(
            plot_tsne(points, labels, parts, names),
            "tsne_stages",
            "t-SNE of features and classes along the stream (Fig. 10)",
            f"The same t-SNE, with the class vectors after each of {last} parts of the stream.",
        ),
    ]


def plot_tsne(
    points: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"],
    stars: dict[str, Float[np.ndarray, "C 2"]],
    names: tuple[str, ...],
):
    """Draws samples in the colours of their true classes, and in each panel class vectors as stars.

    Args:
      points, labels: positions and true labels of the samples.
      stars: title of a panel to the positions of its class vectors.
      names: names of the classes.

    Returns:
      The matplotlib figure.
    """
    figure, axes = panels(len(stars), (3.6 * len(stars) + 1.8, 4.0), sharey=False)
    for axis, (panel, places) in zip(axes, stars.items(), strict=True):
        for c, name in enumerate(names):
            colour, marker = style(c)
            x, y = points[labels == c].T
            look = {"s": 14, "alpha": 0.55, "linewidths": 0}
            axis.scatter(x, y, color=colour, marker=marker, label=name, **look)
        for c, (x, y) in enumerate(places):
            colour, _ = style(c)
            axis.scatter(x, y, s=190, color=colour, marker="*", edgecolors="black", zorder=3)
            place = {"xytext": (6, 5), "textcoords": "offset points", "size": 7}
            axis.annotate(str(c + 1), (x, y), **place)
        axis.set(title=panel, xticks=[], yticks=[])
    handles = [
        plt.Line2D([], [], linestyle="", color=style(c)[0], marker=style(c)[1], markersize=5)
        for c in range(len(names))
    ]
    figure.legend(
        handles,
        [f"{c + 1} {name}" for c, name in enumerate(names)],
        loc="outside right center",
        fontsize=7,
        frameon=False,
        title="clips; stars: classes",
        title_fontsize=8,
    )
    return figure


def plot_attention(view: RunView, granularities: Sequence[int]) -> Figure:
    """Figure 5, on the clip with the highest confidence of the static model; needs joints.

    Args:
      granularities: indices of the granularities to draw.
    """
    assert view.inspection.attention is not None
    n = int(view.inspection.static.max(axis=1).argmax())
    clips = view.clips
    person = clips.clip(n)[0]
    person = person[np.any(person != 0, axis=(1, 2))]
    name = view.result.class_names[view.labels[n]]
    attention = {GRANULARITIES[g]: view.inspection.attention[n, g] for g in granularities}
    drawn = draw_attention(person, attention, clips.skeleton)
    return view.figure(
        drawn,
        "attention",
        "Attention of each description (Fig. 5)",
        f"Clip {clips.ids[n]} ({name}), which has the highest confidence of the static model. "
        f"Query: {clips.query}. Small, light joints: weakest attention; large, dark joints: "
        "strongest. Attention is constant within each temporal segment of the encoder.",
    )
