"""The page of a user's own clips, with the predictions of a model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipelines.clip_files import Clip
from data_pipelines.layouts import COMMON
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.page.viewer import Clips, Page, viewer_data, write_html
from dynapurls_jax.serving.recognition import Recognition

MOST_NAMES = 30  # names of actions in the details
MOST_STATEMENTS = 20

Answered = tuple[Clip, Recognition, Recognition]  # the second recognition is the static one


class ClipPage(NamedTuple):
    """The information of the page.

    Attributes:
      source: file or folder of the clips.
      command: the user's command line.
      model: name or file of the model.
      adapter: name of the test-time method.
      online: whether each clip is predicted before the model adapts to it; otherwise all clips are
        predicted after adaptation to all.
      actions: names of the candidate actions.
      left_out: number of clips that could not be used.
    """

    source: str
    command: str
    model: str
    adapter: str
    online: bool
    actions: Sequence[str]
    left_out: int


def write_clip_page(
    path: Path,
    answered: Sequence[Answered],
    info: ClipPage,
    scores: Mapping[str, Any] | None = None,
) -> None:
    """Writes the page, one HTML file.

    Args:
      path: the file; missing folders are created.
      answered: each clip with its adapted and its static recognition.
      info: the information of the page.
      scores: accuracies by labels (`predict.scores`); without them, no label is shown.
    """
    compared, order = info.adapter != "static", np.arange(len(answered))
    truth = [clip.label if scores is not None else None for clip, _, _ in answered]
    others = {label for label in truth if label} - set(info.actions)
    names = [*info.actions, *sorted(others)]
    labels = np.array([names.index(label) if label else -1 for label in truth], int)
    clips = [clip for clip, _, _ in answered]
    played = Clips(
        joints=[clip.joints for clip in clips],
        indices=order,
        ids=[clip.id for clip in clips],
        skeleton=COMMON,
        fps=[clip.fps for clip in clips],
    )
    page = Page(
        title=f"{info.source}: actions recognised from text",
        lead=lead_of(info),
        warning="",
        command=info.command,
        facts=[] if scores is None else facts_of(scores, compared),
        summary=summary_of(clips, info, scores),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = [
        "The clip probably shows none of the actions." if refined.none_of_these else ""
        for _, refined, _ in answered
    ]
    inspection = inspection_of(answered, info.actions)
    write_html(path, page, viewer_data(names, labels, inspection, played, compared, notes))


def inspection_of(answered: Sequence[Answered], actions: Sequence[str]) -> Inspection:
    """The probabilities of all clips, without attention and vectors."""
    order = np.arange(len(answered))
    return Inspection(
        samples=order,
        order=order,
        static=probabilities([static for _, _, static in answered], actions),
        adapted=probabilities([refined for _, refined, _ in answered], actions),
        attention=None,
        features=None,
        class_vectors=None,
    )


def lead_of(info: ClipPage) -> str:
    """The introduction of the page for a new reader."""
    start = (
        f"For each clip, the model “{info.model}” predicts one of {len(info.actions)} actions, "
        "which are given by text only."
    )
    if info.adapter == "static":
        return start
    learned = "the clips before it" if info.online else "all clips"
    return (
        f"{start} Before refinement, each clip is predicted alone. After refinement, the model has "
        f"been adapted to {learned}, without labels (test-time method {info.adapter})."
    )


def facts_of(scores: Mapping[str, Any], compared: bool) -> list[tuple[str, str]]:
    """Accuracies for the head of the page."""
    after = f"{100 * scores['macro_accuracy']:.1f} %"
    if not compared:
        return [(after, "accuracy, mean over the actions")]
    before = f"{100 * scores['static_macro_accuracy']:.1f}"
    name = "accuracy before and after refinement, mean over the actions"
    return [(f"{before} → {after}", name)]


def probabilities(found: Sequence[Recognition], actions: Sequence[str]) -> Float[np.ndarray, "N C"]:
    """Probabilities of each clip, in the order of the actions."""
    values = np.zeros((len(found), len(actions)))
    for row, recognition in zip(values, found, strict=True):
        by_name = dict(zip(recognition.labels, recognition.probabilities, strict=True))
        row[:] = [by_name[name] for name in actions]
    return values


def summary_of(
    clips: Sequence[Clip], info: ClipPage, scores: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    """Rows of the details: clips, actions, model, accuracies, and assumptions about the clips."""
    left_out = f"; {info.left_out} more cannot be used" if info.left_out else ""
    named = ", ".join(info.actions[:MOST_NAMES])
    more = ", ..." if len(info.actions) > MOST_NAMES else ""
    learning = "each clip alone"
    if info.adapter != "static" and info.online:
        learning = "predicts each clip, then adapts to it"
    elif info.adapter != "static":
        learning = "adapts to all clips, then predicts"
    rows = [
        ("clips", f"{len(clips)}{left_out}"),
        ("actions", f"{len(info.actions)}: {named}{more}"),
        ("model", info.model),
        ("test-time method", f"{info.adapter}, {learning}"),
    ]
    if scores is not None:
        rows.append(("clips with a label", f"{scores['clips']}, of {scores['classes']} classes"))
        shown = ["accuracy", "macro_accuracy", "static_macro_accuracy"]
        for key in shown if info.adapter != "static" else shown[:2]:
            rows.append((key.replace("_", " "), f"{100 * scores[key]:.1f} %"))
    statements = Counter(statement for clip in clips for statement in clip.statements)
    for statement, count in statements.most_common(MOST_STATEMENTS):
        rows.append(("assumed or changed", f"{statement} ({count} clip{'s' * (count > 1)})"))
    if len(statements) > MOST_STATEMENTS:
        rows.append(("assumed or changed", f"{len(statements) - MOST_STATEMENTS} more statements"))
    return rows
