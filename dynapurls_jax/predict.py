"""Recognises actions in clips of any skeleton, from sentences.

  dynapurls predict --clips=my_clip.bvh --actions="wave,sit down,drink from a cup"
  dynapurls predict --clips=folder --actions_file=actions.txt --out=predictions.jsonl
  dynapurls predict --clips=walk.npy --skeleton=coco_17 --fps=25 --actions="walk,run"
  dynapurls predict --clips=archive.npz --score       classes of the archive
  dynapurls predict --clips=folder --actions="walk,run" --page=report.html

Clips are archives (npz), BVH, arrays, NTU's .skeleton, text, or the files of PYSKL, 2s-AGCN and
CTR-GCN, see docs/data.md. Assumptions about coordinates, units and joints are printed once. Writes
one JSON line for each clip: id, action, confidence, top, none_of_these. The model first adapts to
all clips, without their labels, and then predicts. --online predicts each clip before it adapts to
it; --adapter=static predicts each clip alone. Without --actions, the candidates are the classes
of the archives. --score compares with the labels of archives, after all predictions are written,
and prints the accuracy as the last line. --page writes an HTML page that plays the clips with their
predictions, static and refined.
"""

import json
import shlex
import sys
from collections.abc import Iterable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from absl import flags

from data_pipelines.logs import log, warn_left_out
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.compile_cache import keep_programs
from dynapurls_jax.flags import run

if TYPE_CHECKING:
    from data_pipelines.clip_files import Clip
    from dynapurls_jax.serving.clip_page import ClipPage
    from dynapurls_jax.serving.recogniser import ActionStream

_CLIPS = flags.DEFINE_string("clips", None, "A file or a folder of clips.")
_ACTIONS = flags.DEFINE_string("actions", None, "Names of actions, separated by commas.")
_ACTIONS_FILE = flags.DEFINE_string(
    "actions_file", None, "Actions, one a line, or a JSON of descriptions (docs/text.md)."
)
_MODEL = flags.DEFINE_string(
    "model", "universal", "A pretrained model, a workdir, or a file of `dynapurls export model`."
)
_ADAPTER = flags.DEFINE_string(
    "adapter",
    None,
    f"Test-time method: {', '.join(ADAPTERS.names)}, or my_module:MY_ENTRY; default: the model's.",
)
_TOP = flags.DEFINE_integer("top", 5, "Actions listed for each clip.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Write the lines to this file; default: standard output.")
_PAGE = flags.DEFINE_string("page", None, "Write a page that plays the clips to this HTML file.")
_SKELETON = flags.DEFINE_string("skeleton", None, "Joint layout of clips without joint names.")
_UP = flags.DEFINE_string("up", "", "Up axis of the clips: x, y, z, -x, ...; default: estimated.")
_MIRRORED = flags.DEFINE_bool("mirrored", None, "Coordinates are left-handed; default: estimated.")
_METRES = flags.DEFINE_float("metres", None, "Length of one unit in metres; default: estimated.")
_FPS = flags.DEFINE_float("fps", None, "Frames per second; default: by the file.")
_SCORE = flags.DEFINE_bool("score", False, "Compare with the labels of the archives.")
_ONLINE = flags.DEFINE_bool(
    "online", False, "Predict each clip before adapting to it, in order; default: adapt to all."
)


def read_clips(path: Path) -> tuple[list["Clip"], int]:
    """The clips of a file or folder; what is assumed and which clips are left out is printed once.

    Returns:
      The clips, and the number of those that are left out.

    Raises:
      DataError: none can be used.
    """
    from data_pipelines.clip_files import Clip, load_clips
    from data_pipelines.conventions import Declared
    from data_pipelines.errors import DataError

    declared = Declared(_UP.value, _MIRRORED.value, _METRES.value, _FPS.value)
    found: list[Clip] = []
    bad: list[str] = []
    said: dict[str, None] = {}
    for clip in load_clips(path, _SKELETON.value, declared):
        if isinstance(clip, str):
            bad.append(clip)
            continue
        found.append(clip)
        for statement in clip.statements:
            if statement not in said:
                said[statement] = None
                log.info(f"{clip.id}: {statement}")
    warn_left_out(bad)
    if not found:
        raise DataError(f"none of {len(bad)} clips can be used", path)
    return found, len(bad)


def chosen_actions(path: Path) -> list[str] | dict[str, Any]:
    """The actions of the flags, or all classes of the archives, whether they have clips or not.

    Raises:
      ValueError: there are none, or two flags at once.
      DataError: the file cannot be read.
    """
    from data_pipelines.clip_files import class_names
    from dynapurls_jax.text.descriptions import load_descriptions

    if _ACTIONS.value and _ACTIONS_FILE.value:
        raise ValueError("expected one of --actions and --actions_file, got both")
    if _ACTIONS.value is not None:
        return checked_actions("--actions", _ACTIONS.value.split(","))
    if _ACTIONS_FILE.value:
        file = Path(_ACTIONS_FILE.value)
        if file.suffix == ".json":
            return dict(load_descriptions(file))
        if not file.is_file():
            raise FileNotFoundError(f"--actions_file: expected one action a line, no file {file}")
        return checked_actions(str(file), file.read_text("utf-8").splitlines())
    names = class_names(path)
    if not names:
        raise ValueError("these clips have no class names: expected --actions or --actions_file")
    return list(names)


def checked_actions(source: str, names: Iterable[str]) -> list[str]:
    """The names that are not empty.

    Raises:
      ValueError: there is none.
    """
    actions = [name.strip() for name in names if name.strip()]
    if not actions:
        raise ValueError(f'{source}: expected names of actions, as in "walk,sit down", got none')
    return actions


def write_predictions(output: TextIO, found: list[tuple["Clip", Any]]) -> None:
    """One JSON line for each clip."""
    for clip, recognition in found:
        top = zip(recognition.labels, recognition.probabilities, strict=True)
        record = {
            "id": clip.id,
            "action": recognition.label,
            "confidence": round(float(recognition.probabilities[0]), 4),
            "top": [[name, round(float(share), 4)] for name, share in list(top)[: _TOP.value]],
            "none_of_these": recognition.none_of_these,
        }
        output.write(json.dumps(record) + "\n")
    output.flush()


def scores(answered: list[tuple["Clip", Any, Any]]) -> dict[str, Any]:
    """Accuracies in [0, 1] over the clips with a label.

    Args:
      answered: clips with their recognition, and that without adaptation.
    """
    import numpy as np

    labelled = [triple for triple in answered if triple[0].label]
    truth = np.array([clip.label for clip, _, _ in labelled])

    def macro(predicted: list[str]) -> tuple[float, float]:
        hits = np.array(predicted) == truth
        of_class = [hits[truth == name].mean() for name in np.unique(truth)]
        return round(float(hits.mean()), 4), round(float(np.mean(of_class)), 4)

    accuracy, of_classes = macro([refined.label for _, refined, _ in labelled])
    static = macro([alone.label for _, _, alone in labelled])
    return {
        "clips": len(labelled),
        "classes": len(np.unique(truth)),
        "accuracy": accuracy,
        "macro_accuracy": of_classes,
        "static_macro_accuracy": static[1],
    }


def recognise(stream: "ActionStream", clips: list["Clip"], online: bool) -> list[Any]:
    """For each clip what it shows, or why the model cannot use it.

    Args:
      online: predict each clip before adapting to it, in their order; otherwise adapt to all, in
        random order, then predict.
    """
    from data_pipelines.progress import progress

    def answers(title: str, order: Iterable[int], learn: bool = True) -> list[Any]:
        found: list[Any] = []
        with progress(title, len(clips)) as report:
            for answer in stream.recognise_all((clips[n] for n in order), learn=learn):
                found.append(answer)
                report(len(found))
        return found

    if online:
        return answers("recognising", range(len(clips)))
    answers("adapting to all clips", shuffled(len(clips)))
    return answers("recognising", range(len(clips)), learn=False)


def shuffled(count: int) -> list[int]:
    """The order in which clips are learned from: files are sorted by name, so by class."""
    import numpy as np

    return np.random.default_rng(0).permutation(count).tolist()


def page_info(stream: "ActionStream", left_out: int) -> "ClipPage":
    """The texts and details of the page."""
    from dynapurls_jax.serving.clip_page import ClipPage

    return ClipPage(
        source=Path(_CLIPS.value or "").resolve().name,
        command=f"dynapurls predict {shlex.join(sys.argv[1:])}",
        model=_MODEL.value,
        adapter=stream.adapter,
        online=_ONLINE.value,
        actions=stream.actions,
        left_out=left_out,
    )


def next_command() -> str:
    """What to do after this command: look at the page, or write it."""
    if _PAGE.value:
        return f"open {_PAGE.value} in a browser"
    return shlex.join(["dynapurls", "predict", *sys.argv[1:], "--page=page.html"])


def main(_: list[str]) -> None:
    """Reads, recognises, writes; compares with labels last."""
    from data_pipelines.paths import data_home
    from dynapurls_jax.serving.clip_page import write_clip_page
    from dynapurls_jax.serving.pretrained import load_pretrained

    if not _CLIPS.value:
        raise ValueError("expected --clips=FILE_OR_FOLDER; --help shows examples")
    for flag in (_OUT, _PAGE):
        if flag.value and not (folder := Path(flag.value).absolute().parent).is_dir():
            raise FileNotFoundError(f"--{flag.name}: expected a file in a folder, no {folder}")
    keep_programs(data_home())
    with redirect_stdout(sys.stderr):  # standard output has predictions alone
        clips, bad = read_clips(Path(_CLIPS.value))
        if _SCORE.value and not any(clip.label for clip in clips):
            raise ValueError("--score: expected archives with labels, got clips without")
        log.info(f"loading the model {_MODEL.value}")
        model, actions = load_pretrained(_MODEL.value), chosen_actions(Path(_CLIPS.value))
        stream = model.stream(actions, _ADAPTER.value)
        found = static = recognise(stream, clips, _ONLINE.value)
        if stream.adapter != "static" and (_SCORE.value or _PAGE.value):
            static = recognise(model.stream(actions, "static"), clips, online=True)
    pairs = zip(clips, found, strict=True)
    warn_left_out([f"{clip.id}: {error}" for clip, error in pairs if isinstance(error, ValueError)])
    triples = zip(clips, found, static, strict=True)
    answered = [triple for triple in triples if not isinstance(triple[1], ValueError)]
    with ExitStack() as stack:
        output = sys.stdout
        if _OUT.value:
            output = stack.enter_context(Path(_OUT.value).open("w", encoding="utf-8"))
        write_predictions(output, [(clip, answer) for clip, answer, _ in answered])
    if _OUT.value:
        log.info(f"{len(answered)} predictions: {_OUT.value}")
    scored = scores(answered) if _SCORE.value else None
    if _PAGE.value:
        info = page_info(stream, bad + len(clips) - len(answered))
        write_clip_page(Path(_PAGE.value), answered, info, scored)
        log.info(f"page: {_PAGE.value}")
    if scored:
        print(json.dumps(scored))
    log.info(f"next: {next_command()}")


if __name__ == "__main__":
    run(main)
