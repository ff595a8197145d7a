"""What is left of a step whose loss or gradient is not finite: all that it takes to run it again.

`scripts/replay_step.py` runs it and says where the first number is lost.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipelines.batches import Batch
from data_pipelines.prepared import PreparedClips
from dynapurls_jax.config import plain
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.processes import is_first
from dynapurls_jax.training.stages import NonFiniteError, write_whole

SHOWN = 16  # clips that an error names


def report_pretraining(
    config: ConfigDict,
    clips: PreparedClips,
    rows: np.ndarray,
    labels: np.ndarray,
    seed: int,
    folder: Path,
    number: int,
    state: Any,
    given: tuple[Batch, int],
) -> NoReturn:
    """Keeps a broken step of stage 1 below its folder.

    Args:
      rows: of all training clips.
      labels: `[N]` of the whole corpus.
      number: of the step.
      state: from before it.
      given: its batch, and the capacity that it was computed with.

    Raises:
      NonFiniteError: always.
    """
    batch, capacity = given
    arrays = {"clips": clips.clips[batch.rows], "labels": labels[batch.rows], "rows": batch.rows}
    arrays |= {"persons": clips.persons[batch.rows]}
    about: dict[str, Any] = {"seed": seed, "step": number, "capacity": capacity}
    about |= {"training_clips": len(rows), "num_classes": _classes(state)}
    about |= {"skeleton": clips.skeleton.name}
    _keep(config, folder, number, state, [clips.ids[row] for row in batch.rows], arrays, about)


def report_alignment(
    config: ConfigDict,
    seed: int,
    folder: Path,
    number: int,
    state: Any,
    ids: Sequence[str],
    arrays: dict[str, np.ndarray],
) -> NoReturn:
    """Keeps a broken step of stage 3, as `report_pretraining` does.

    Args:
      number: of the step in its epoch.
      ids: of the clips of its batch.
      arrays: its tokens and labels, and the text.
    """
    about = {"seed": seed, "step": number, "epoch": int(state.epoch)}
    _keep(config, folder, number, state, ids, arrays, about)


def _classes(state: Any) -> int:
    return state.params["classifier"]["bias"].shape[0]


def _keep(config, folder, number, state, ids, arrays, about) -> NoReturn:
    place = folder / f"broken-step-{number}"
    place.mkdir(exist_ok=True)
    with closing(Checkpoints(place / "state")) as checkpoints:
        checkpoints.save(number, jax.device_get(state))
    if is_first():
        np.savez(place / "batch.npz", **arrays)
        write_whole(place / "about.json", json.dumps(about | plain(config, *config), indent=1))
    named = ", ".join(ids[:SHOWN])
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    when = f" of epoch {about['epoch'] + 1}" if "epoch" in about else ""
    raise NonFiniteError(
        f"loss or gradient of step {number}{when} is not finite; its batch was {named}{more}. The "
        f"state is kept as it was before that step; to run it again and see where the "
        f"first number is lost:\n  python scripts/replay_step.py {place}"
    )
