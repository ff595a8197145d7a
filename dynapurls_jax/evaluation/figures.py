"""Pictures of results."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from dynapurls_jax.evaluation.metrics import running_accuracy

STATIC_COLOUR, ADAPTED_COLOUR = "#52606d", "#c2410c"


def plot_running_accuracy(results, adapter: str, title: str, path: Path) -> None:
    """Accuracy along the stream, static and adapted, a panel for each split.

    Args:
      results: `RunResult`s; the runs of a split share a panel: mean over seeds and orders as a
        line, their range as a band.
      title: says what the data are.
      path: of the PNG.
    """
    splits = list(dict.fromkeys(result.split for result in results))
    figure, axes = plt.subplots(
        1, len(splits), figsize=(1 + 4 * len(splits), 3.6), sharey=True, squeeze=False
    )
    for axis, split in zip(axes[0], splits, strict=True):
        runs = [result for result in results if result.split == split]
        for name, colour in (("static", STATIC_COLOUR), (adapter, ADAPTED_COLOUR)):
            curves = [
                curve
                for run in runs
                for curve in 100
                * running_accuracy(run.streams[name].predicted, run.stream_labels(name))
            ]
            if not curves:
                continue
            length = min(map(len, curves))
            stacked = [curve[:length] for curve in curves]
            steps = range(1, length + 1)
            mean = [sum(values) / len(values) for values in zip(*stacked, strict=True)]
            low = [min(values) for values in zip(*stacked, strict=True)]
            high = [max(values) for values in zip(*stacked, strict=True)]
            axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(steps, mean, color=colour, label=name)
        axis.axhline(100 / runs[0].classes, color="black", linewidth=0.8, linestyle=":")
        axis.annotate("chance", (length, 100 / runs[0].classes), ha="right", va="bottom", size=8)
        axis.set(title=split, xlabel="samples seen", xlim=(1, length), ylim=(0, 100))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("running accuracy, %")
    axes[0][-1].legend(frameon=False, loc="upper right")
    figure.suptitle(title, size=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
