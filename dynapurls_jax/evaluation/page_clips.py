"""The clips of a run's page, with the texts and the motion sketches of its classes."""

import numpy as np
from jaxtyping import Float, Int

from data_pipelines.animation import imagined_clip
from data_pipelines.clip_files import ASSUMED_FPS
from dynapurls_jax.evaluation.page.viewer import Clips
from dynapurls_jax.evaluation.tasks import sentences_of
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.registry import chosen_settings


def clips_of(
    run: TrainedRun, indices: Int[np.ndarray, " N"], class_ids: Int[np.ndarray, " C"]
) -> Clips:
    """Clips that a run's page plays.

    Args:
      indices: of the clips in the corpus.
      class_ids: of the candidates.
    """
    inputs = run.inputs
    sentences = sentences_of(run, class_ids) if inputs.sketches else None  # else no descriptions
    texts = None
    if sentences is not None:
        texts = [[phrasings[0] for phrasings in of_class] for of_class in sentences]
    query, own_queries = _query_of(run)
    return Clips(
        joints=None if inputs.clips is None else inputs.clips.clips,
        indices=indices,
        ids=[inputs.corpus.clip_ids[n] for n in indices],
        skeleton=inputs.skeleton,
        query=query,
        own_queries=own_queries,
        texts=texts,
        imagined=imagined_of(run, class_ids),
        fps=rates_of(run, indices),
    )


def rates_of(run: TrainedRun, indices: Int[np.ndarray, " N"]) -> list[float]:
    """Frames per second of prepared clips, so that each lasts as long as its recording.

    Recordings are taken to have `ASSUMED_FPS`, as Kinect's do.
    """
    data = run.config.data
    if data.temporal_sampling not in ("resample", "upright"):  # which stretch a clip
        return [ASSUMED_FPS] * len(indices)
    return [ASSUMED_FPS * data.frames / int(run.inputs.corpus.frames[n]) for n in indices]


def imagined_of(
    run: TrainedRun, class_ids: Int[np.ndarray, " C"]
) -> list[Float[np.ndarray, "M T V 3"] | None]:
    """The animated sketches of some classes; empty where the method takes none or has no clips."""
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
    """The text behind attention in words, and whether it is of the predicted class."""
    settings = chosen_settings(run.config.method)
    if settings.get("partition") == "static":
        return "none, the partition is fixed", False
    if settings.get("query") != "per_candidate":
        return "the mean of the seen classes' texts", False
    return "the class that the static model predicted", True
