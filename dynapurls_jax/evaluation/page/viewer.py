"""A page as one HTML file without other files: summary, figures, and a viewer of clips."""

import base64
import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data_pipelines.atomic import write_text
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.evaluation.inspection import Inspection, relative_attention
from dynapurls_jax.text.granularities import GRANULARITIES

MAX_CLIPS = 1000  # in one file, for 10 MB
MAX_FRAMES = 32  # of a clip
TOP = 5
RESOURCES = "dynapurls_jax.evaluation.page"


class Figure(NamedTuple):
    """A picture: its PNG, its title and what it shows."""

    path: Path
    title: str
    caption: str


class Page(NamedTuple):
    """What stands around the viewer, all of it plain text.

    Attributes:
      summary: names and values.
      figures: pictures, which are copied into the file; without any there is no section of them.
    """

    title: str
    warning: str
    command: str
    summary: Sequence[tuple[str, str]]
    figures: Sequence[Figure] = ()


class Clips(NamedTuple):
    """What the viewer plays.

    Attributes:
      joints: `[clips, M, T, V, 3]` or a list of `[M, T, V, 3]`, in metres, z up, zeros for absent
        persons; more clips than these and perhaps on disk. None where features are read from a
        folder.
      indices: `[N]`, of each clip in `joints`.
      ids: of the clips.
      skeleton: of the tokens' joints.
      query: the text behind the attention, in words; "" without attention.
      texts: eight of each class, if each class has queries of its own; else None.
    """

    joints: Float[np.ndarray, "clips M T V 3"] | Sequence[Float[np.ndarray, "M T V 3"]] | None
    indices: Int[np.ndarray, " N"]
    ids: Sequence[str]
    skeleton: Skeleton
    query: str = ""
    texts: Sequence[Sequence[str]] | None = None

    def clip(self, n: int) -> Float[np.ndarray, "M T V 3"]:
        """Clip number `n`; there must be joints."""
        if self.joints is None:
            raise ValueError("expected clips, got features")
        return np.asarray(self.joints[self.indices[n]])


def write_html(path: Path, page: Page, viewer: dict[str, Any]) -> None:
    """Writes a page.

    Args:
      viewer: see `viewer_data`.
    """
    files = resources.files(RESOURCES)
    text = (files / "report.html").read_text("utf-8")
    warning = f'<p class="warning">{html.escape(page.warning)}</p>' if page.warning else ""
    for mark, content in {
        "TITLE": html.escape(page.title),
        "WARNING": warning,
        "COMMAND": html.escape(page.command),
        "SUMMARY": _summary(page.summary),
        "FIGURES": _figures(page.figures),
        "STYLE": (files / "report.css").read_text("utf-8"),
        "SCRIPT": (files / "report.js").read_text("utf-8"),
        "DATA": _embedded(viewer),
    }.items():
        text = text.replace(f"<!--{mark}-->", content)
    write_text(path, text)


def viewer_data(
    names: Sequence[str],
    labels: Int[np.ndarray, " N"],
    inspection: Inspection,
    clips: Clips,
    compared: bool = True,
) -> dict[str, Any]:
    """What `report.js` reads; of more than `MAX_CLIPS` clips evenly spaced ones.

    Args:
      names: of the candidate classes, and after them of others that clips have.
      labels: true positions in `names`; negative where a clip's class is not known.
      inspection, clips: of the same samples, in the same order.
      compared: whether the adapted answers are shown beside the static ones.
    """
    places = np.argsort(inspection.order)
    shown = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MAX_CLIPS)).astype(int))
    attention = inspection.attention
    segments = 0 if attention is None else attention.shape[-1] // clips.skeleton.num_joints
    records = []
    for n in shown.tolist():
        record = {"id": clips.ids[n], "label": int(labels[n]), "place": int(places[n])}
        record["static"] = _top(inspection.static[n])
        if compared:
            record["adapted"] = _top(inspection.adapted[n])
        if attention is not None:
            record |= _attention(attention[n])
        motion = {"frames": 1, "persons": 0} if clips.joints is None else quantised(clips.clip(n))
        records.append(record | motion)
    return {
        "classes": list(names),
        "granularities": [] if attention is None else list(GRANULARITIES),
        "joints": list(clips.skeleton.joints),
        "bones": [list(bone) for bone in clips.skeleton.bones],
        "segments": segments,
        "query": clips.query,
        "texts": clips.texts,
        "compared": compared,
        "left_out": len(labels) - len(shown),
        "clips": records,
    }


def _top(probabilities: Float[np.ndarray, " C"]) -> list[list[int | float]]:
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    return [[int(c), round(float(probabilities[c]), 3)] for c in best]


def _attention(attention: Float[np.ndarray, "G S"]) -> dict[str, Any]:
    strength, low, high = relative_attention(attention)
    ends = [[round(float(a), 2), round(float(b), 2)] for a, b in zip(low, high, strict=True)]
    return {"attention": _base64(np.round(255 * strength)), "range": ends}


def quantised(clip: Float[np.ndarray, "M T V 3"]) -> dict[str, Any]:
    """A clip as bytes: persons and frames with data, at most `MAX_FRAMES` frames.

    Returns:
      `data`: bytes `[persons, frames, V, 3]` in base64, 255 being the longest side of the box that
      holds everything; `centre` of that box in the same unit.
    """
    present = np.any(clip != 0, axis=(2, 3))
    persons = clip[present.any(axis=1)] if present.any() else clip[:1]
    last = int(np.flatnonzero(present.any(axis=0)).max(initial=0)) + 1
    frames = np.unique(np.linspace(0, last - 1, min(last, MAX_FRAMES)).round().astype(int))
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


def _embedded(record: dict[str, Any]) -> str:
    """JSON that cannot end the script element around it, whatever names it holds."""
    return json.dumps(record, separators=(",", ":")).replace("<", "\\u003c")


def _summary(pairs: Sequence[tuple[str, str]]) -> str:
    cells = [f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in pairs]
    return f"<table>{''.join(cells)}</table>"


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    return (
        '<section aria-labelledby="figures-title">\n<h2 id="figures-title">Figures</h2>\n'
        + "\n".join(map(_figure, figures))
        + "\n</section>"
    )


def _figure(figure: Figure) -> str:
    title, caption = html.escape(figure.title), html.escape(figure.caption)
    source = base64.b64encode(figure.path.read_bytes()).decode()
    return (
        f'<figure><img alt="{title}" src="data:image/png;base64,{source}">'
        f"<figcaption><b>{title}.</b> {caption}</figcaption></figure>"
    )
