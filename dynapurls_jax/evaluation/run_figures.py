"""Pictures of one run: Figures 2, 5, 8, 9 and 10 of the paper, and a reliability diagram."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix

from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.evaluation.inspection import relative
from dynapurls_jax.evaluation.figures import ADAPTED_COLOUR, STATIC_COLOUR
from dynapurls_jax.evaluation.metrics import calibration
from data_pipelines.skeletons import Skeleton

MOST_POINTS = 1000  # that a t-SNE shows; more of them hide each other
# Okabe and Ito's colours, told apart by the colour-blind; with more classes markers change too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX"


def style(number: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def save(figure, title: str, path: Path) -> None:
    """Writes a PNG under a title that says what the data are."""
    figure.suptitle(title, size=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


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
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.5 and count <= 25:
                colour = "white" if share > 55 else "black"
                axis.text(
                    column, row, f"{share:.0f}", ha="center", va="center", color=colour, size=7
                )
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
        axis.barh(
            place,
            change[c],
            color=COLOURS[0] if gained else COLOURS[1],
            hatch="" if gained else "//",
            edgecolor="white",
        )
        label = f"{100 * before[c]:.0f} to {100 * after[c]:.0f} %"
        axis.annotate(
            label,
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
    axis.spines[["top", "right"]].set_visible(False)
    save(figure, title, path)


def plot_reliability(
    labels: Int[np.ndarray, " N"],
    probabilities: dict[str, Float[np.ndarray, "N C"]],
    title: str,
    path: Path,
) -> None:
    """Accuracy by confidence in ten bins, and the expected calibration error."""
    figure, axes = plt.subplots(
        1,
        len(probabilities),
        figsize=(3.6 * len(probabilities), 3.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    colours = (STATIC_COLOUR, ADAPTED_COLOUR)[: len(probabilities)]
    pairs = zip(axes[0], probabilities.items(), colours, strict=True)
    for axis, (panel, values), colour in pairs:
        hits = values.argmax(axis=1) == labels
        found = calibration(values.max(axis=1), hits)
        middles = (np.arange(len(found.share)) + 0.5) / len(found.share)
        axis.bar(
            100 * middles,
            100 * np.nan_to_num(found.accuracy),
            width=9,
            color=colour,
            label="accuracy in the bin",
        )
        for x, height, share in zip(middles, found.accuracy, found.share, strict=True):
            if share:
                axis.annotate(
                    f"{100 * share:.0f}", (100 * x, 100 * height), ha="center", va="bottom", size=7
                )
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, linestyle=":")
        axis.set(
            title=f"{panel}: ECE {100 * found.error:.1f} points",
            xlabel="confidence, %",
            xlim=(0, 100),
            ylim=(0, 108),
        )
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("accuracy, % (on the bars: % of clips)")
    save(figure, title, path)


def embed(
    features: Float[np.ndarray, "N d"], texts: Float[np.ndarray, "stages C d"], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One t-SNE of features and of the texts of all stages: `[N, 2]` and `[stages, C, 2]`."""
    points = np.concatenate([features, texts.reshape(-1, texts.shape[-1])])
    perplexity = min(30.0, (len(points) - 1) / 3)
    placed = TSNE(
        metric="cosine", init="random", perplexity=perplexity, random_state=seed
    ).fit_transform(points)
    return placed[: len(features)], placed[len(features) :].reshape(*texts.shape[:2], 2)


def plot_tsne(
    points: Float[np.ndarray, "N 2"],
    texts: dict[str, Float[np.ndarray, "C 2"]],
    labels: Int[np.ndarray, " N"],
    names: tuple[str, ...],
    title: str,
    path: Path,
) -> None:
    """Figures 2 and 10: features by true class, and the classes' texts as stars, stage by stage."""
    figure, axes = plt.subplots(
        1, len(texts), figsize=(3.6 * len(texts) + 1.8, 4.0), squeeze=False, layout="constrained"
    )
    for axis, (panel, stars) in zip(axes[0], texts.items(), strict=True):
        for c, name in enumerate(names):
            colour, marker = style(c)
            own = points[labels == c]
            axis.scatter(
                *own.T, s=14, color=colour, marker=marker, alpha=0.55, linewidths=0, label=name
            )
        for c, star in enumerate(stars):
            colour, _ = style(c)
            axis.scatter(*star, s=190, color=colour, marker="*", edgecolors="black", zorder=3)
            axis.annotate(str(c + 1), star, size=7, xytext=(6, 5), textcoords="offset points")
        axis.set(title=panel, xticks=[], yticks=[])
    handles = [
        plt.Line2D([], [], linestyle="", color=style(c)[0], marker=style(c)[1], markersize=5)
        for c in range(len(names))
    ]
    shown = [f"{c + 1} {name}" for c, name in enumerate(names)]
    figure.legend(
        handles,
        shown,
        loc="outside right center",
        fontsize=7,
        frameon=False,
        title="clips; stars: texts",
        title_fontsize=8,
    )
    save(figure, title, path)


def plot_attention(
    clip: Float[np.ndarray, "T V 3"],
    attention: Float[np.ndarray, "G S"],
    skeleton: Skeleton,
    title: str,
    path: Path,
    moments: int = 6,
) -> None:
    """Figure 5: where each description looks, on the moving skeleton.

    Args:
      clip: one person, without frames of zeros.
      attention: over `S = T' V` tokens.
      moments: frames that are drawn.
    """
    strengths, lows, highs = relative(attention)
    grid = strengths.reshape(len(attention), -1, skeleton.num_joints)
    frames = np.linspace(0, len(clip) - 1, moments).round().astype(int)
    flat = clip[..., [0, 2]] * (-1, 1)  # from the front: the right hand is on the left
    middle, reach = (flat.min((0, 1)) + flat.max((0, 1))) / 2, np.ptp(flat, axis=(0, 1)).max() / 1.8
    figure, axes = plt.subplots(
        len(grid),
        moments,
        figsize=(1.3 * moments + 0.6, 1.35 * len(grid) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    names = [
        f"{name}: {low:.2f} to {high:.2f} times an even share"
        for name, low, high in zip(GRANULARITIES, lows, highs, strict=True)
    ]
    for row, strength, name in zip(axes, grid, names, strict=True):
        for axis, frame in zip(row, frames, strict=True):
            now, joints = strength[frame * len(grid[0]) // len(clip)], flat[frame]
            for child, parent in skeleton.bones:
                axis.plot(*joints[[child, parent]].T, color="#9aa5b1", linewidth=0.8, zorder=1)
            axis.scatter(
                *joints.T,
                s=4 + 60 * now,
                c=now,
                cmap="cividis_r",
                vmin=0,
                vmax=1,
                zorder=2,
                linewidths=0.3,
                edgecolors="black",
            )
            axis.set(
                xlim=(middle[0] - reach, middle[0] + reach),
                ylim=(middle[1] - reach, middle[1] + reach),
                aspect="equal",
            )
            axis.axis("off")
        row[0].set_title(name, loc="left", size=8)
    save(figure, title, path)
