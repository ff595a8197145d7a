"""Pictures of one run: Figures 2, 5, 8, 9 and 10 of the paper, and a reliability diagram."""

from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from matplotlib.collections import LineCollection
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix

from data_pipelines.skeletons import Skeleton
from dynapurls_jax.evaluation.figures import ADAPTED_COLOUR, STATIC_COLOUR, save, without_frame
from dynapurls_jax.evaluation.inspection import relative_attention
from dynapurls_jax.evaluation.metrics import calibration
from dynapurls_jax.text.granularities import GRANULARITIES

MAX_POINTS = 1000  # of a t-SNE; more of them hide each other
# Okabe and Ito's colours, told apart by the colour-blind; with more classes markers change too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX"


class Samples(NamedTuple):
    """Samples in the plane of a t-SNE, and their true classes."""

    points: Float[np.ndarray, "N 2"]
    labels: Int[np.ndarray, " N"]


def style(number: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def plot_confusion(
    labels: Int[np.ndarray, " N"],
    predictions: dict[str, Int[np.ndarray, " N"]],
    names: tuple[str, ...],
    title: str,
    path: Path,
) -> None:
    """Figure 9: confusion matrices side by side, in % of each true class."""
    count = len(names)
    size = max(3.2, 0.34 * count + 0.6)
    words = 0.08 * max(map(len, names))  # inches of the longest name, upright and lying
    figure, axes = plt.subplots(
        1,
        len(predictions),
        figsize=(len(predictions) * size + words + 1.6, size + words + 1.3),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (panel, predicted) in zip(axes[0], predictions.items(), strict=True):
        matrix = confusion_matrix(labels, predicted, labels=range(count)).astype(float)
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
    axes[0][0].set_ylabel("true")
    figure.colorbar(image, ax=axes[0].tolist(), label="% of the true class", shrink=0.8)
    save(figure, title, path)


def plot_class_changes(
    before: Float[np.ndarray, " C"],
    after: Float[np.ndarray, " C"],
    names: tuple[str, ...],
    title: str,
    path: Path,
) -> None:
    """Figure 8: what each class gains, sorted; accuracies in [0, 1], NaN without clips."""
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
    save(figure, title, path)


def plot_reliability(
    labels: Int[np.ndarray, " N"],
    probabilities: dict[str, Float[np.ndarray, "N C"]],
    title: str,
    path: Path,
) -> None:
    """Accuracy by confidence in ten bins, and the expected calibration error."""
    count = len(probabilities)
    figure, axes = plt.subplots(
        1, count, figsize=(3.6 * count, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    colours = (STATIC_COLOUR, ADAPTED_COLOUR)[:count]
    for axis, (panel, values), colour in zip(axes[0], probabilities.items(), colours, strict=True):
        found = calibration(values.max(axis=1), values.argmax(axis=1) == labels)
        middles = 100 * (np.arange(len(found.share)) + 0.5) / len(found.share)
        heights = 100 * np.nan_to_num(found.accuracy)
        axis.bar(middles, heights, width=9, color=colour, label="accuracy in the bin")
        for x, height, share in zip(middles, heights, found.share, strict=True):
            if share:
                place = {"ha": "center", "va": "bottom", "size": 7}
                axis.annotate(f"{100 * share:.0f}", (x, height), **place)
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, linestyle=":")
        axis.set(
            title=f"{panel}: ECE {100 * found.error:.1f} points",
            xlabel="confidence, %",
            xlim=(0, 100),
            ylim=(0, 108),
        )
        without_frame(axis)
    axes[0][0].set_ylabel("accuracy, % (on the bars: % of clips)")
    save(figure, title, path)


def embed(
    features: Float[np.ndarray, "N e"], class_vectors: Float[np.ndarray, "parts C e"], seed: int = 0
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, "parts C 2"]]:
    """One t-SNE (cosine distance) of the features and of the classes at all times."""
    points = np.concatenate([features, class_vectors.reshape(-1, class_vectors.shape[-1])])
    perplexity = min(30.0, (len(points) - 1) / 3)
    tsne = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed)
    placed = tsne.fit_transform(points)
    return placed[: len(features)], placed[len(features) :].reshape(*class_vectors.shape[:2], 2)


def plot_tsne(
    samples: Samples,
    panels: dict[str, Float[np.ndarray, "C 2"]],
    names: tuple[str, ...],
    title: str,
    path: Path,
) -> None:
    """Figures 2 and 10: features by true class, and the classes' vectors as stars."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.6 * len(panels) + 1.8, 4.0), squeeze=False, layout="constrained"
    )
    for axis, (panel, stars) in zip(axes[0], panels.items(), strict=True):
        for c, name in enumerate(names):
            colour, marker = style(c)
            x, y = samples.points[samples.labels == c].T
            look = {"s": 14, "alpha": 0.55, "linewidths": 0}
            axis.scatter(x, y, color=colour, marker=marker, label=name, **look)
        for c, (x, y) in enumerate(stars):
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
    save(figure, title, path)


def plot_attention(
    clip: Float[np.ndarray, "T V 3"],
    attention: Float[np.ndarray, "G S"],
    skeleton: Skeleton,
    title: str,
    path: Path,
) -> None:
    """Figure 5: where each description looks, on the moving skeleton, at six moments.

    Args:
      clip: one person, without frames of zeros.
      attention: over `S = T' V` tokens.
    """
    moments = 6
    strengths, lows, highs = relative_attention(attention)
    grid = strengths.reshape(len(attention), -1, skeleton.num_joints)
    frames = np.linspace(0, len(clip) - 1, moments).round().astype(int)
    flat = clip[..., [0, 2]] * (-1, 1)  # from the front: the right hand is on the left
    low, high = flat.min((0, 1)), flat.max((0, 1))
    flat = (flat - (low + high) / 2) / max(float((high - low).max()), 1e-6)  # in a unit square
    figure, axis = plt.subplots(
        figsize=(1.3 * moments + 0.6, 1.35 * len(grid) + 0.4), layout="constrained"
    )
    for g, name in enumerate(GRANULARITIES):
        for moment, frame in enumerate(frames):
            strength = grid[g, frame * len(grid[g]) // len(clip)]
            joints = flat[frame] + (1.2 * moment, -1.3 * g)
            _draw_skeleton(axis, joints, strength, skeleton)
        label = f"{name}: {lows[g]:.2f} to {highs[g]:.2f} times an even share"
        axis.text(-0.6, 0.55 - 1.3 * g, label, size=8)
    axis.set(xlim=(-0.65, 1.2 * moments - 0.55), ylim=(0.1 - 1.3 * len(grid), 0.75), aspect="equal")
    axis.axis("off")
    save(figure, title, path)


def _draw_skeleton(
    axis, joints: Float[np.ndarray, "V 2"], strength: Float[np.ndarray, " V"], skeleton: Skeleton
) -> None:
    bones = joints[np.array(skeleton.bones)]
    axis.add_collection(LineCollection(bones, colors="#9aa5b1", linewidths=0.8, zorder=1))
    axis.scatter(
        *joints.T,
        s=4 + 60 * strength,
        c=strength,
        cmap="cividis_r",
        vmin=0,
        vmax=1,
        zorder=2,
        linewidths=0.3,
        edgecolors="black",
    )
