"""A page as one self-contained HTML file: a viewer of clips, details and figures."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data_pipelines.atomic import write_text
from data_pipelines.clip_files import ASSUMED_FPS
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.evaluation.inspection import Inspection, relative_attention
from dynapurls_jax.text.granularities import GRANULARITIES

MAX_CLIPS = 1000  # in one file, for 10 MB
MIN_FRAMES, MAX_FRAMES = 32, 96  # of a clip; the fewer clips, the more frames
LEAST_ATTENTION = 2.0  # of the strongest token, as a multiple of uniform attention
TOP = 5
SCRIPTS = ("skeleton.js", "report.js", "controls.js")
RESOURCES = "dynapurls_jax.evaluation.page"


class Figure(NamedTuple):
    """A figure: its PNG, title and caption."""

    path: Path
    title: str
    caption: str


class Page(NamedTuple):
    """The texts and figures around the viewer; all strings are plain text.

    Attributes:
      lead: introduction, a few sentences.
      warning: a warning above it; "" for none.
      command: the user's command line.
      facts: the most important numbers, each with its name.
      summary: names and values of the details.
      figures: figures, which are embedded; without any, the page has no such section.
    """

    title: str
    lead: str
    warning: str
    command: str
    facts: Sequence[tuple[str, str]]
    summary: Sequence[tuple[str, str]]
    figures: Sequence[Figure] = ()


class Clips(NamedTuple):
    """The clips of the viewer.

    Attributes:
      joints: `[clips, M, T, V, 3]` or a list of `[M, T, V, 3]`, in metres, z up, zeros for absent
        persons; may be memory-mapped and have more clips than the viewer. None if features are
        read from a folder.
      indices: `[N]` indices into `joints`.
      ids: names of the `N` clips.
      skeleton: the skeleton of `joints`.
      query: the query of attention in words; "" without attention.
      own_queries: whether the query is the text of the class that the static model predicts.
      texts: eight descriptions of each class; None if embeddings are precomputed.
      imagined: the animated motion sketch of each class or None; empty for a method without
        sketches.
      fps: frames per second of each clip; None for `ASSUMED_FPS`.
    """

    joints: Float[np.ndarray, "clips M T V 3"] | Sequence[Float[np.ndarray, "M T V 3"]] | None
    indices: Int[np.ndarray, " N"]
    ids: Sequence[str]
    skeleton: Skeleton
    query: str = ""
    own_queries: bool = False
    texts: Sequence[Sequence[str]] | None = None
    imagined: Sequence[Float[np.ndarray, "M T V 3"] | None] = ()
    fps: Sequence[float] | None = None

    def clip(self, n: int) -> Float[np.ndarray, "M T V 3"]:
        """The joints of clip number `n`.

        Raises:
          ValueError: there are no joints.
        """
        if self.joints is None:
            raise ValueError("expected clips, got features")
        return np.asarray(self.joints[self.indices[n]])


def write_html(path: Path, page: Page, viewer: dict[str, Any]) -> None:
    """Writes a page.

    Args:
      path: the HTML file.
      viewer: the result of `viewer_data`.
    """
    files = resources.files(RESOURCES)
    text = (files / "report.html").read_text("utf-8")
    warning = f'<p class="warning">{html.escape(page.warning)}</p>' if page.warning else ""
    style = (files / "report.css").read_text("utf-8")
    script = "\n".join((files / name).read_text("utf-8") for name in SCRIPTS)
    for mark, content in {
        "POLICY": _policy(style, script),
        "TITLE": html.escape(page.title),
        "LEAD": html.escape(page.lead),
        "WARNING": warning,
        "FACTS": _facts(page.facts),
        "SUMMARY": _summary(page.summary, page.command),
        "FIGURES": _figures(page.figures),
        "STYLE": style,
        "SCRIPT": script,
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
    notes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The JSON data of `report.js`, for at most `MAX_CLIPS` evenly spaced clips.

    Args:
      names: names of the candidate classes, followed by other classes that clips have.
      labels: true indices into `names`; negative for a clip without a label.
      inspection, clips: predictions and clips of the same samples, in the same order.
      compared: whether adapted predictions are compared with the static ones.
      notes: a sentence about each clip.
    """
    places = np.argsort(inspection.order)
    shown = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), MAX_CLIPS)).astype(int))
    frames = int(np.clip(MIN_FRAMES * MAX_CLIPS / max(len(shown), 1), MIN_FRAMES, MAX_FRAMES))
    attended = attended_granularities(inspection.attention)
    answers = (inspection.static, inspection.adapted)[: 1 + compared]
    records = []
    for n in shown.tolist():
        record = {"id": clips.ids[n], "label": int(labels[n]), "place": int(places[n])}
        record |= _answers([of_all[n] for of_all in answers])
        if notes is not None:
            record["note"] = notes[n]
        if inspection.attention is not None and attended:
            record |= _attention(inspection.attention[n])
        motion = {"frames": 1, "persons": 0, "seconds": 1.0}
        if clips.joints is not None:
            fps = ASSUMED_FPS if clips.fps is None else clips.fps[n]
            motion = quantised(clips.clip(n), frames, fps)
        records.append(record | motion)
    segments = 0
    if inspection.attention is not None:
        segments = inspection.attention.shape[-1] // clips.skeleton.num_joints
    return {
        "classes": list(names),
        "attended": [[g, GRANULARITIES[g]] for g in attended],
        "body": {
            "joints": list(clips.skeleton.joints),
            "bones": [list(bone) for bone in clips.skeleton.bones],
        },
        "segments": segments,
        "query": clips.query,
        "own_queries": clips.own_queries,
        "texts": clips.texts,
        "imagined": [None if c is None else quantised(c, MAX_FRAMES) for c in clips.imagined],
        "compared": compared,
        "left_out": len(labels) - len(shown),
        "clips": records,
    }


def attended_granularities(attention: Float[np.ndarray, "N G S"] | None) -> list[int]:
    """The granularities whose strongest token reaches `LEAST_ATTENTION` in half of the clips.

    Nearly uniform attention is not informative, but looks like any other after scaling.
    """
    if attention is None or not len(attention):
        return []
    strongest = np.median(attention.max(axis=-1), axis=0) * attention.shape[-1]
    return np.flatnonzero(strongest >= LEAST_ATTENTION).tolist()


def _answers(probabilities: Sequence[Float[np.ndarray, " C"]]) -> dict[str, Any]:
    """Predicted class, and probabilities of the top classes, before and after refinement."""
    best = [np.argsort(-p, kind="stable")[:TOP].tolist() for p in probabilities]
    likely = dict.fromkeys(c for top in reversed(best) for c in top)  # in the refined order first
    shares = [[c, *(round(float(p[c]), 3) for p in probabilities)] for c in likely]
    return {"guesses": [top[0] for top in best], "answers": shares}


def _attention(attention: Float[np.ndarray, "G S"]) -> dict[str, Any]:
    strength, low, high = relative_attention(attention)
    ends = [[round(float(a), 2), round(float(b), 2)] for a, b in zip(low, high, strict=True)]
    return {"attention": _base64(np.round(255 * strength)), "range": ends}


def quantised(
    clip: Float[np.ndarray, "M T V 3"], most: int, fps: float = ASSUMED_FPS
) -> dict[str, Any]:
    """A clip as bytes, without absent persons and padded frames.

    Args:
      most: largest number of frames; a longer clip is subsampled evenly.
      fps: frames per second of the clip before subsampling.

    Returns:
      `data`: bytes `[persons, frames, V, 3]` in base64, where 255 is the longest side of the
      bounding box; `centre`: centre of the box as shares of that side; `seconds`: duration;
      `persons` and `frames`.
    """
    present = np.any(clip != 0, axis=(2, 3))
    persons = clip[present.any(axis=1)] if present.any() else clip[:1]
    last = int(np.flatnonzero(present.any(axis=0)).max(initial=0)) + 1
    frames = np.unique(np.linspace(0, last - 1, min(last, most)).round().astype(int))
    persons = persons[:, frames]
    low, high = persons.min(axis=(0, 1, 2)), persons.max(axis=(0, 1, 2))
    side = max(float((high - low).max()), 1e-6)
    return {
        "persons": len(persons),
        "frames": len(frames),
        "seconds": round(last / fps, 2),
        "data": _base64(np.round(255 * (persons - low) / side)),
        "centre": [round(float(c), 3) for c in (high - low) / side / 2],
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()


def _embedded(record: dict[str, Any]) -> str:
    """JSON for a script element; escaped, so that no name can close the element."""
    return json.dumps(record, separators=(",", ":")).replace("<", "\\u003c")


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows only this style and this script."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """The list of the most important numbers, each with its name."""
    if not facts:
        return ""
    cells = (
        f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(value)}</dd></div>"
        for value, what in facts
    )
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _summary(pairs: Sequence[tuple[str, str]], command: str) -> str:
    cells = [f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in pairs]
    cells.append(f"<tr><th>command</th><td><code>{html.escape(command)}</code></td></tr>")
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
        f'<figure><h3>{title}</h3><img alt="{title}" src="data:image/png;base64,{source}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
