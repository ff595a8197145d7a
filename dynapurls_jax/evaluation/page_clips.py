"""The clips of a run's page, with the descriptions and the motion sketches of its classes."""

import numpy as np
from jaxtyping import Float, Int

from data_pipelines.animation import imagined_clip
from data_pipelines.clip_files import ASSUMED_FPS
from dynapurls_jax.evaluation.page.viewer import Clips
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.registry import chosen_settings, settings_of
from dynapurls_jax.text.features import class_descriptions
from dynapurls_jax.text.settings import TextSettings


def clips_of(
    run: TrainedRun, indices: Int[np.ndarray, " N"], class_ids: Int[np.ndarray, " C"]
) -> Clips:
    """The clips of a run's page.

    Args:
      indices: indices of the clips in the corpus.
      class_ids: class ids of the candidates.
    """
    inputs = run.inputs
    query, own_queries = _query_of(run)
    return Clips(
        joints=None if inputs.clips is None else inputs.clips.clips,
        indices=indices,
        ids=[inputs.corpus.clip_ids[n] for n in indices],
        skeleton=inputs.skeleton,
        query=query,
        own_queries=own_queries,
        texts=descriptions_of(run, class_ids),
        imagined=imagined_of(run, class_ids),
        fps=rates_of(run, indices),
    )


def descriptions_of(run: TrainedRun, class_ids: Int[np.ndarray, " C"]) -> list[list[str]] | None:
    """The first phrasing of each description, `[C][G]`; None for a run without descriptions."""
    settings = settings_of(TextSettings, run.config.text, "text")
    if settings.encoder == "precomputed" or not run.inputs.sketches:
        return None
    every = class_descriptions(settings, run.inputs.corpus)
    return [[phrasings[0] for phrasings in every[c]] for c in class_ids]


def rates_of(run: TrainedRun, indices: Int[np.ndarray, " N"]) -> list[float] | None:
    """Frame rates of prepared clips in Hz, with which a clip is as long as its recording.

    None for features without clips. Recordings are assumed to have `ASSUMED_FPS`, as those of a
    Kinect.
    """
    data = run.config.data
    if run.inputs.clips is None:
        return None
    if data.temporal_sampling not in ("resample", "upright"):  # these change the length of a clip
        return [ASSUMED_FPS] * len(indices)
    return [ASSUMED_FPS * data.frames / int(run.inputs.corpus.frames[n]) for n in indices]


def imagined_of(
    run: TrainedRun, class_ids: Int[np.ndarray, " C"]
) -> list[Float[np.ndarray, "M T V 3"] | None]:
    """The animated sketches of some classes; empty if the method has no sketches or no clips."""
    clips = run.inputs.clips
    if run.sketch_tokens is None or clips is None or not run.inputs.sketches:
        return []
    shape, sampling = clips.clips.shape[1:3], run.config.data.temporal_sampling
    sketches = [run.inputs.sketches[c] for c in class_ids]
    return [
        None if sketch is None else imagined_clip(sketch, clips.skeleton, sampling, shape)
        for sketch in sketches
    ]


def _query_of(run: TrainedRun) -> tuple[str, bool]:
    """The query of attention in words, and whether it depends on the predicted class."""
    settings = chosen_settings(run.config.method)
    if settings.get("partition") == "static":
        return "none, since the partition is static", False
    if settings.get("query") != "per_candidate":
        return "the mean of the seen classes' texts", False
    return "the class that the static model predicted", True
