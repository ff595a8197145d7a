"""Converts the clips of a sensor, with any skeleton and coordinates, to the joints of a model."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.clip_files import Clip, CommonClips
from data_pipelines.clip_readers import RawFile, Recording
from data_pipelines.conventions import Declared
from data_pipelines.layouts import COMMON
from data_pipelines.skeletons import map_joints
from dynapurls_jax.serving.model import Model

_ESTIMATION_CLIPS = 20  # clips from which the conventions of a sensor are estimated


class Sensor:
    """Converts clips to the joints of a model.

    Conventions that are not declared (up axis, unit, mirroring) are estimated from the first clips
    and used for all later ones.
    """

    def __init__(
        self,
        model: Model,
        skeleton: str | Mapping | None,
        declared: Declared,
        report: Callable[[str], None],
    ):
        """Starts with the declared conventions.

        Args:
          skeleton: see `data_pipelines.layouts.layout_of`.
          declared: the known conventions.
          report: called once with each assumption, a short sentence.
        """
        self._model, self._report = model, report
        self._skeleton, self._fps = skeleton, declared.fps
        self._declared = replace(declared, fps=None)
        self._first: list[Recording] = []
        self._clips: CommonClips | None = None
        self._reported: set[str] = set()

    def __call__(
        self, joints: Float[np.ndarray, "m t v k"], times: Float[np.ndarray, " t"] | None = None
    ) -> Float[np.ndarray, "M T V 3"]:
        """A clip in metres, in the joints of the model.

        Args:
          joints: 2D or 3D coordinates in any unit.
          times: times of the frames in seconds, if known.

        Raises:
          DataError: the clip cannot be used.
        """
        # Times take precedence over the declared frame rate.
        fps = self._fps if times is None else None
        recording = Recording("", joints, fps=fps, times=times)
        clips, first = self._clips, self._first
        if clips is None or len(first) < _ESTIMATION_CLIPS:
            first = [*first, recording]
            clips = CommonClips(
                Path("clip"), self._skeleton, self._declared, RawFile(len(first), first.__getitem__)
            )
            clip = clips.clip(len(first) - 1)
            self._clips, self._first = clips, first
        else:
            clips.raw = RawFile(1, lambda _: recording)
            clip = clips.clip(0)
        for statement in clip.statements:
            if statement not in self._reported:
                self._reported.add(statement)
                self._report(statement)
        return model_clip(clip, self._model)


def model_clip(clip: Clip, model: Model) -> Float[np.ndarray, "m t v 3"]:
    """A clip in the joints of a model; of too many persons, those with the most motion are kept."""
    joints, most = clip.joints, model.clip_shape[0]
    if len(joints) > most:
        moved = np.abs(np.diff(joints, axis=1)).sum(axis=(1, 2, 3))
        joints = joints[np.sort(np.argsort(-moved)[:most])]
    return map_joints(joints, COMMON, model.source)
