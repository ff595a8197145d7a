"""Figures of results, written as PNG."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from sklearn.metrics import roc_curve

from dynapurls_jax.evaluation.metrics import running_accuracy

plt.rcParams["text.parse_math"] = False  # a class may be named "pay $5, get $1 back"
LETTERS_PER_INCH = 11  # of a title
STATIC_COLOUR, ADAPTED_COLOUR = "#52606d", "#c2410c"
# The palette of Okabe and Ito, safe for colour blindness; dashes and markers differ too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX"
STYLES: tuple[tuple[str, Any, str], ...] = tuple(
    zip(COLOURS, ("-", "--", "-.", ":"), MARKERS, strict=False)
)
GATE_STYLES = dict(zip(("entropy", "energy", "stacking", "logistic"), STYLES, strict=True))


def save(figure, title: str, path: Path) -> None:
    """Writes a PNG with a title, whose long lines are wrapped; "" for none."""
    text = figure.suptitle("", size=10)
    for letters in range(LETTERS_PER_INCH, 4, -1):  # wide letters need shorter lines
        width = int(letters * figure.get_figwidth())
        lines = [textwrap.fill(line, width) for line in title.splitlines()]
        text.set_text("\n".join(lines))
        if text.get_window_extent().width < figure.bbox.width:
            break
    figure.savefig(path, dpi=120)
    plt.close(figure)


def panels(count: int, size: tuple[float, float], sharey: bool = True) -> tuple[Any, np.ndarray]:
    """A figure of `size` inches, and the axes of its `count` panels in a row."""
    figure, axes = plt.subplots(
        1, count, figsize=size, sharey=sharey, squeeze=False, layout="constrained"
    )
    return figure, axes[0]


def without_frame(axis) -> None:
    """Removes the upper and the right side of the frame of a plot."""
    axis.spines[["top", "right"]].set_visible(False)


def plot_running_accuracy(results, adapter: str, title: str, path: Path) -> None:
    """Plots running accuracy, static and adapted, in a panel for each split.

    Args:
      results: `RunResult`s; a line is the mean over seeds and orders of a split, a band the range.
      adapter: name of the test-time method.
      title: title of the figure; it names the split if there is only one.
    """
    splits = list(dict.fromkeys(result.split for result in results))
    figure, axes = panels(len(splits), (1.0 + 4 * len(splits), 3.6))
    for axis, split in zip(axes, splits, strict=True):
        runs = [result for result in results if result.split == split]
        for name, colour in {adapter: ADAPTED_COLOUR, "static": STATIC_COLOUR}.items():
            curves = np.concatenate(
                [
                    100 * running_accuracy(run.streams[name].predicted, run.stream_labels(name))
                    for run in runs
                ]
            )
            length = curves.shape[1]
            steps = range(1, length + 1)
            low, high = curves.min(axis=0), curves.max(axis=0)
            axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(steps, curves.mean(axis=0), color=colour, label=name)
        axis.axhline(100 / runs[0].classes, color="black", linewidth=0.8, linestyle=":")
        axis.annotate("chance", (length, 100 / runs[0].classes), ha="right", va="bottom", size=8)
        axis.set(xlabel="samples seen", xlim=(1, length), ylim=(0, 100))
        if len(splits) > 1:
            axis.set_title(split)
        without_frame(axis)
    axes[0].set_ylabel("running accuracy, %")
    axes[-1].legend(frameon=False)
    save(figure, title, path)


def plot_gate_roc(results, names: dict[str, str], title: str, path: Path) -> None:
    """Plots the ROC of each gate, with its operating point, in a panel for each split.

    Args:
      results: `GzslResult`s; a line and an operating point for each gate and seed.
      names: gate to its name in the legend.
      title: title of the figure; it names the split if there is only one.
    """
    splits = list(dict.fromkeys(result.split for result in results))
    figure, axes = panels(len(splits), (0.6 + 3.8 * len(splits), 4.8))
    for axis, split in zip(axes, splits, strict=True):
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, linestyle=":")
        for run in (result for result in results if result.split == split):
            for gate, scores in run.scores.items():
                colour, dashes, marker = GATE_STYLES[gate]
                false, true, _ = roc_curve(run.is_unseen, scores)
                axis.plot(100 * false, 100 * true, color=colour, linestyle=dashes, linewidth=1)
                x, y = (100 * share for share in run.operating_point(gate))
                look = {"color": colour, "markeredgecolor": "white", "markersize": 9}
                axis.plot(x, y, marker, clip_on=False, **look)
        axis.set(xlabel="seen clips sent to unseen, %", xlim=(0, 100), ylim=(0, 102))
        if len(splits) > 1:
            axis.set_title(split)
        axis.set_aspect("equal")
        without_frame(axis)
    axes[0].set_ylabel("unseen clips sent to unseen, %")
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, marker=marker, label=names[gate])
        for gate, (colour, dashes, marker) in GATE_STYLES.items()
        if gate in results[0].scores
    ]
    place = {"loc": "lower right", "fontsize": 8, "frameon": False}
    axes[-1].legend(handles=handles, title="ROC, with operating point", **place)
    save(figure, title, path)


def plot_sensitivity(cells, title: str, path: Path) -> None:
    """Figure 7 of the paper: accuracy by confidence threshold and by memory capacity.

    Args:
      cells: objects with `split`, `row` (as "threshold 0.1"), `mean` and `std` in %.
    """
    figure, axes = panels(2, (10.0, 3.6))
    names = {"threshold": "confidence threshold", "capacity": "memory capacity K"}
    for axis, (kind, label) in zip(axes, names.items(), strict=True):
        points = [cell for cell in cells if cell.row.startswith(kind)]
        for number, split in enumerate(dict.fromkeys(cell.split for cell in points)):
            here = [cell for cell in points if cell.split == split]
            x = [float(cell.row.split()[1]) for cell in here]
            y, spread = (np.array([getattr(cell, key) for cell in here]) for key in ("mean", "std"))
            colour, dashes, marker = STYLES[number % len(STYLES)]
            axis.fill_between(x, y - spread, y + spread, color=colour, alpha=0.12, linewidth=0)
            axis.plot(x, y, color=colour, linestyle=dashes, marker=marker, label=split)
        if kind == "capacity":
            axis.set_xscale("log", base=2)
            axis.set_xticks(x, [f"{value:g}" for value in x])
            axis.minorticks_off()
        axis.set_xlabel(label)
        without_frame(axis)
    axes[0].set_ylabel("accuracy, %")
    handles, labels = axes[1].get_legend_handles_labels()
    note = "split; bands:\nstd over runs"
    figure.legend(handles, labels, loc="outside right center", frameon=False, title=note)
    save(figure, title, path)
