"""Draws docs/pipeline.png, the picture in docs/method.md.

  python scripts/draw_pipeline.py

It needs no data.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from dynapurls_jax.commands import parser_of

INK, FILL, ACCENT = "#1f2933", "#eef2f6", "#fde8dc"
BOXES = {
    # name: (x, y, title, what flows out, colour)
    "raw": (0.0, 1, "raw files", "data_pipelines", FILL),
    "clips": (2.1, 1, "clips", "[B, M, T, V, 3]", FILL),
    "encoder": (4.2, 1, "Shift-GCN", "tokens [B, S, n]", FILL),
    "align": (6.3, 1, "text gathers\njoints and frames", "v [B, C, G, d]", FILL),
    "score": (8.4, 1, "cosine with F'", "logits [B, C]", FILL),
    "predict": (10.5, 1, "prediction", "per sample, online", FILL),
    "texts": (2.1, -0.6, "8 descriptions\nof each class", "global, 4 parts, 3 phases", FILL),
    "text": (4.2, -0.6, "text encoder", "F [C, G, d]", FILL),
    "refine": (6.3, -0.6, "scale and bias", "F' = normalise(S·F + ΔF)", ACCENT),
    "memory": (10.5, -0.6, "class-balanced\nmemory", "K samples of each class", ACCENT),
}
ARROWS = [
    ("raw", "clips"),
    ("clips", "encoder"),
    ("encoder", "align"),
    ("align", "score"),
    ("score", "predict"),
    ("texts", "text"),
    ("text", "refine"),
    ("refine", "align"),
    ("memory", "refine"),
    ("predict", "memory"),
]
WIDTH, HEIGHT = 1.7, 0.9


def main() -> None:
    """Boxes, arrows, and a frame around what the scan carries."""
    parser_of(__doc__).parse_args()
    figure, axis = plt.subplots(figsize=(12.6, 3.9))
    frame = FancyBboxPatch((5.25, -1.4), 6.4, 1.55, boxstyle="round,pad=0.05", fill=False)
    frame.set(edgecolor="#c2410c", linestyle="--", linewidth=1)
    axis.add_patch(frame)
    axis.text(11.55, -1.34, "carried by one lax.scan over the stream", ha="right", size=8.5,
              color="#c2410c")  # fmt: skip
    boxes = {}
    for name, (x, y, title, detail, colour) in BOXES.items():
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        box = FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle="round,pad=0.04", facecolor=colour)
        box.set(edgecolor=INK, linewidth=0.9)
        boxes[name] = axis.add_patch(box)
        axis.text(x, y + 0.12, title, ha="center", va="center", size=10, color=INK)
        axis.text(x, y - 0.31, detail, ha="center", va="center", size=7.5, color="#52606d")
    for start, end in ARROWS:
        style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1}
        style |= {"patchA": boxes[start], "patchB": boxes[end]}
        axis.annotate("", BOXES[end][:2], BOXES[start][:2], arrowprops=style)
    axis.set(xlim=(-1, 11.8), ylim=(-1.5, 1.6))
    axis.axis("off")
    path = Path(__file__).parents[1] / "docs" / "pipeline.png"
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
