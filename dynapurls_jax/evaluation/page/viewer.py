"""A page as one HTML file without other files: summary, figures, and a viewer of clips."""

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
LEAST_ATTENTION = 2.0  # of the strongest token, in even shares; below it, attention says little
TOP = 5
SCRIPTS = ("skeleton.js", "report.js", "controls.js")
RESOURCES = "dynapurls_jax.evaluation.page"


class Figure(NamedTuple):
    """A picture: its PNG, its title and what it shows."""

    path: Path
    title: str
    caption: str


class Page(NamedTuple):
    """What stands around the viewer, all of it plain text.

    Attributes:
      lead: what a reader sees, in a few sentences.
      facts: the most important numbers, each with what it is.
      summary: names and values.
      figures: pictures, which are copied into the file; without any there is no section of them.
    """

    title: str
    lead: str
    warning: str
    command: str
    facts: Sequence[tuple[str, str]]
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
      own_queries: whether that text is of the class that the static model predicted.
      texts: eight of each class; None where vectors came without texts.
      imagined: the animated motion sketch of each class, None for a class without; empty for a
        method that takes none.
      fps: frames per second of each clip; None if they are not known: `ASSUMED_FPS`.
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
    """What `report.js` reads; of more than `MAX_CLIPS` clips evenly spaced ones.

    Args:
      names: of the candidate classes, and after them of others that clips have.
      labels: true positions in `names`; negative where a clip's class is not known.
      inspection, clips: of the same samples, in the same order.
      compared: whether the adapted answers are shown beside the static ones.
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
    """The granularities whose attention says something, by the strongest token of half the clips.

    Attention that is all but even looks like any other once it is stretched for the eye.
    """
    if attention is None or not len(attention):
        return []
    strongest = np.median(attention.max(axis=-1), axis=0) * attention.shape[-1]
    return np.flatnonzero(strongest >= LEAST_ATTENTION).tolist()


def _answers(probabilities: Sequence[Float[np.ndarray, " C"]]) -> dict[str, Any]:
    """The likeliest class at each time, and all shares of the classes likely at any time."""
    best = [np.argsort(-p, kind="stable")[:TOP].tolist() for p in probabilities]
    likely = dict.fromkeys(c for of_time in reversed(best) for c in of_time)  # the last first
    shares = [[c, *(round(float(p[c]), 3) for p in probabilities)] for c in likely]
    return {"guesses": [of_time[0] for of_time in best], "answers": shares}


def _attention(attention: Float[np.ndarray, "G S"]) -> dict[str, Any]:
    strength, low, high = relative_attention(attention)
    ends = [[round(float(a), 2), round(float(b), 2)] for a, b in zip(low, high, strict=True)]
    return {"attention": _base64(np.round(255 * strength)), "range": ends}


def quantised(
    clip: Float[np.ndarray, "M T V 3"], most: int, fps: float = ASSUMED_FPS
) -> dict[str, Any]:
    """A clip as bytes: persons and frames with data.

    Args:
      most: frames to keep; of more, evenly spaced ones.
      fps: frames per second, before any are left out.

    Returns:
      `data`: bytes `[persons, frames, V, 3]` in base64, 255 being the longest side of the box that
      holds everything; `centre` of that box in the same unit; `seconds` that the clip lasts.
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
    """JSON that cannot end the script element around it, whatever names it holds."""
    return json.dumps(record, separators=(",", ":")).replace("<", "\\u003c")


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy under which this style and script work, and nothing else."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """A list of numbers, each with what it is."""
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
