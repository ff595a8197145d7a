"""The report of a step with a non-finite loss or gradient: everything that a replay needs.

`scripts/replay_step.py` repeats the step and names the first operation with a non-finite result.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.atomic import write_text
from data_pipelines.batches import Batch
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.folds import classes_of, folds_of
from dynapurls_jax.training.processes import is_first
from dynapurls_jax.training.stages import NonFiniteError
from dynapurls_jax.zero_shot.base import ClassText

if TYPE_CHECKING:
    from dynapurls_jax.training.method_task import MethodTask
    from dynapurls_jax.training.pretrain import EncoderTask

SHOWN = 16  # clips that an error names


def report_pretraining(
    task: "EncoderTask", folder: Path, number: int, state: Any, batch: tuple[Batch, int]
) -> NoReturn:
    """Writes a step of stage 1 to `<folder>/nonfinite-step-<number>`.

    Args:
      folder: folder of the stage.
      number: number of the step.
      state: the state before the step.
      batch: the batch of the step, and its capacity (packed persons of a device).

    Raises:
      NonFiniteError: always.
    """
    (_, indices), capacity = batch
    arrays = {
        "clips": task.clips.clips[indices],
        "labels": task.labels[indices],
        "indices": indices,
        "persons": task.clips.persons[indices],
    }
    if task.imagined is not None:
        arrays["imagined"] = task.imagined
    about = {
        "stage": "encoder",
        "seed": task.seed,
        "step": number,
        "capacity": capacity,
        "training_clips": len(task.indices),
        "num_classes": task.num_classes,
        "skeleton": task.clips.skeleton.name,
    }
    _write(folder, state, [task.clips.ids[i] for i in indices], arrays, about | task.record)


def report_runs(
    tasks: "Sequence[MethodTask]",
    folders: Sequence[Path],
    number: int,
    state: Any,
    batches: tuple[Any, Any, Any],
) -> NoReturn:
    """Reports the first run whose epoch is not finite; see `report_fit`.

    Args:
      tasks, folders: of each run.
      number: of the epoch since the start; unused, as the state has its own.
      state, batches: with a leading axis of the runs; the last of `batches` is a flag for the whole
        epoch.

    Raises:
      NonFiniteError: always.
    """
    run = int(np.argmin(np.asarray(batches[2])))
    state, batches = jax.tree.map(lambda leaf: leaf[run], (state, batches))
    report_fit(tasks[run], folders[run], state, batches[:2])


def report_folds(
    tasks: "Sequence[MethodTask]",
    folders: Sequence[Path],
    number: int,
    state: Any,
    batches: tuple[Any, Any, Any],
) -> NoReturn:
    """Reports the first run with a fold that is not finite; arguments as in `report_runs`.

    Args:
      batches: as in `report_runs`; the first two have an axis of the folds after that of the runs.

    Raises:
      NonFiniteError: always.
    """
    run = int(np.argmin(np.asarray(batches[2])))
    fold = int(np.argmin(np.asarray(batches[1][run]).all(axis=1)))
    task, kept = tasks[run], jnp.asarray(folds_of(tasks[run]).kept[fold])
    labels = np.searchsorted(np.asarray(kept), np.asarray(task.train.labels)).astype(np.int32)
    task = replace(task, train=task.train._replace(labels=labels), text=classes_of(task.text, kept))
    trained = jax.tree.map(lambda leaf: leaf[run][fold], state.trained)
    state = state.replace(trained=trained, epoch=state.epoch[run])
    report_fit(task, folders[run], state, (batches[0][run][fold], batches[1][run][fold]), fold)


def report_fit(
    task: "MethodTask",
    folder: Path,
    state: Any,
    batches: tuple[Any, Any],
    fold: int | None = None,
) -> NoReturn:
    """Writes the first non-finite step of an epoch of stage 3, as `report_pretraining` does.

    Args:
      batches: sample indices of the epoch in order, and a flag for each batch: whether it and all
        before it are finite.
      fold: number of the fold whose task and state these are.

    Raises:
      NonFiniteError: always.
    """
    order, finite = (np.asarray(found) for found in batches)
    number = int(np.argmin(finite))
    indices = order.reshape(len(finite), -1)[number]
    arrays = {
        "tokens": np.asarray(task.train.tokens[indices]),
        "labels": np.asarray(task.train.labels)[indices],
        **_text_arrays(task.text),
    }
    about = {
        "stage": "method",
        "seed": task.seed,
        "step": number,
        "steps_before": int(state.epoch) * len(finite) + number,
        "epoch": int(state.epoch),
        "fold": fold,
        "training_clips": len(task.ids),
        "token_shape": task.shapes.tokens,
        "skeleton": task.shapes.skeleton.name,
    }
    _write(folder, state.trained, [task.ids[i] for i in indices], arrays, about | task.record)


def _text_arrays(text: Any) -> dict[str, np.ndarray]:
    """The text of a task by name, as `ClassText` names it."""
    named = text._asdict() if isinstance(text, ClassText) else {"text": text}
    return {name: np.asarray(array) for name, array in named.items() if array is not None}


def _write(
    folder: Path, state: Any, ids: Sequence[str], arrays: dict[str, np.ndarray], about: dict
) -> NoReturn:
    number = about["step"]
    place = folder / f"nonfinite-step-{number}"
    place.mkdir(exist_ok=True)
    with closing(Checkpoints(place / "state")) as checkpoints:
        checkpoints.save(number, jax.device_get(state))
    if is_first():
        np.savez(place / "batch.npz", **arrays)  # type: ignore[arg-type]  # names, not options
        write_text(place / "about.json", json.dumps(about, indent=1))
    named = ", ".join(ids[:SHOWN])
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    when = f" of epoch {about['epoch'] + 1}" if "epoch" in about else ""
    when += f" of fold {about['fold']} (fit.folds)" if about.get("fold") is not None else ""
    raise NonFiniteError(
        f"loss or gradient of step {number}{when} is not finite; its batch was {named}{more}. The "
        f"state is kept as it was before that step; to compute it again and find the first "
        f"operation that is not finite:\n  python scripts/replay_step.py {place}"
    )
