"""The report as one HTML file that needs nothing else: summary, figures, and a viewer of clips."""

import base64
import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.evaluation.inspection import Details, relative
from data_pipelines.skeletons import Skeleton

MOST_CLIPS = 1000  # in one file, for 10 MB
MOST_FRAMES = 32  # of a clip
TOP = 5


class Figure(NamedTuple):
    """A picture: its PNG, what it is called and what it shows."""

    path: Path
    title: str
    caption: str


class Clips(NamedTuple):
    """What the viewer plays.

    Attributes:
      joints: `[clips, M, T, V, 3]` in metres, z up, zeros where nobody is; of more clips than these
        and perhaps on disk. None where features were brought.
      rows: `[N]`, where in `joints` each clip is.
      ids: of the clips.
      skeleton: of the tokens' joints.
      asks: whose texts the attention is of, in words.
      texts: eight of each class, if each class asks for itself; else None.
    """

    joints: Float[np.ndarray, "clips M T V 3"] | None
    rows: Int[np.ndarray, " N"]
    ids: Sequence[str]
    skeleton: Skeleton
    asks: str
    texts: Sequence[Sequence[str]] | None

    def clip(self, n: int) -> Float[np.ndarray, "M T V 3"]:
        """One of them; there must be joints."""
        if self.joints is None:
            raise ValueError("expected clips, got features without any")
        return np.asarray(self.joints[self.rows[n]])


def write_html(
    path: Path,
    title: str,
    warning: str,
    command: str,
    summary: Sequence[tuple[str, str]],
    names: Sequence[str],
    labels: Int[np.ndarray, " N"],
    details: Details,
    clips: Clips,
    figures: Sequence[Figure],
) -> None:
    """Writes the report of one run.

    Args:
      path: of the file.
      title, warning, command: plain text, as everything else that is shown.
      summary: names and values.
      names: of the candidate classes.
      labels: true positions in `names`.
      details: predictions and attention.
      clips: in the same order as `labels`.
      figures: pictures, which are copied into the file.
    """
    page = (resources.files(__name__) / "report.html").read_text("utf-8")
    note = f'<p class="warning">{html.escape(warning)}</p>' if warning else ""
    for mark, text in {
        "TITLE": html.escape(title),
        "WARNING": note,
        "COMMAND": html.escape(command),
        "SUMMARY": _summary(summary),
        "FIGURES": "\n".join(map(_figure, figures)),
        "STYLE": (resources.files(__name__) / "report.css").read_text("utf-8"),
        "SCRIPT": (resources.files(__name__) / "report.js").read_text("utf-8"),
        "DATA": _embedded(viewer_data(names, labels, details, clips)),
    }.items():
        page = page.replace(f"<!--{mark}-->", text)
    path.write_text(page, "utf-8")


def viewer_data(
    names: Sequence[str], labels: Int[np.ndarray, " N"], details: Details, clips: Clips
) -> dict[str, Any]:
    """What `report.js` reads; of more than `MOST_CLIPS` clips evenly spaced ones."""
    turn = np.argsort(details.order)
    shown = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MOST_CLIPS)).astype(int))
    records = []
    for n in shown.tolist():
        record = {"id": clips.ids[n], "label": int(labels[n]), "turn": int(turn[n])}
        for when, probabilities in (("static", details.static), ("adapted", details.adapted)):
            best = np.argsort(-probabilities[n], kind="stable")[:TOP]
            record[when] = [[int(c), round(float(probabilities[n, c]), 3)] for c in best]
        strength, low, high = relative(details.attention[n])
        record["attention"] = _base64(np.round(255 * strength))
        record["range"] = [
            [round(float(a), 2), round(float(b), 2)] for a, b in zip(low, high, strict=True)
        ]
        motion = {"frames": 1, "persons": 0}
        if clips.joints is not None:
            motion = quantised(clips.clip(n))
        records.append(record | motion)
    return {
        "classes": list(names),
        "granularities": list(GRANULARITIES),
        "joints": list(clips.skeleton.joints),
        "bones": [list(bone) for bone in clips.skeleton.bones],
        "segments": details.attention.shape[-1] // clips.skeleton.num_joints,
        "asks": clips.asks,
        "texts": clips.texts,
        "left_out": len(labels) - len(shown),
        "clips": records,
    }


def quantised(clip: Float[np.ndarray, "M T V 3"]) -> dict[str, Any]:
    """A clip as bytes: persons and frames that are there, at most `MOST_FRAMES` of these.

    Returns:
      `data`: bytes `[persons, frames, V, 3]` in base64, 255 being the longest side of the box that
      holds everything; `centre` of that box in the same unit.
    """
    there = np.any(clip != 0, axis=(2, 3))
    persons = clip[there.any(axis=1)] if there.any() else clip[:1]
    last = int(np.flatnonzero(there.any(axis=0)).max(initial=0)) + 1
    frames = np.unique(np.linspace(0, last - 1, min(last, MOST_FRAMES)).round().astype(int))
    persons = persons[:, frames]
    low, high = persons.min(axis=(0, 1, 2)), persons.max(axis=(0, 1, 2))
    side = max(float((high - low).max()), 1e-6)
    return {
        "persons": len(persons),
        "frames": len(frames),
        "data": _base64(np.round(255 * (persons - low) / side)),
        "centre": [round(float(c), 3) for c in (high - low) / side / 2],
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()


def _embedded(record: dict) -> str:
    """JSON that cannot end the script element that it stands in, whatever names it holds."""
    return json.dumps(record, separators=(",", ":")).replace("<", "\\u003c")


def _summary(rows: Sequence[tuple[str, str]]) -> str:
    cells = [f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows]
    return f"<table>{''.join(cells)}</table>"


def _figure(figure: Figure) -> str:
    title, caption = html.escape(figure.title), html.escape(figure.caption)
    source = base64.b64encode(figure.path.read_bytes()).decode()
    return (
        f'<figure><img alt="{title}" src="data:image/png;base64,{source}">'
        f"<figcaption><b>{title}.</b> {caption}</figcaption></figure>"
    )
