"""Clips of one sensor, of any skeleton and coordinates, in the joints of a model."""

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

_ENOUGH = 20  # clips by which a sensor's coordinates are known


class Sensor:
    """Brings clips into the joints of a model.

    What is not declared of the coordinates is estimated over the first clips, and holds for all
    that follow: up axis, unit, and whether the sensor mirrors.
    """

    def __init__(
        self,
        model: Model,
        skeleton: str | Mapping | None,
        declared: Declared,
        say: Callable[[str], None],
    ):
        """Starts with what is declared.

        Args:
          skeleton: see `data_pipelines.layouts.layout_of`.
          say: gets each assumption once, as a short sentence.
        """
        self._model, self._say = model, say
        self._skeleton, self._fps = skeleton, declared.fps
        self._declared = replace(declared, fps=None)
        self._first: list[Recording] = []
        self._clips: CommonClips | None = None
        self._said: set[str] = set()

    def __call__(
        self, joints: Float[np.ndarray, "m t v k"], times: Float[np.ndarray, " t"] | None = None
    ) -> Float[np.ndarray, "M T V 3"]:
        """A clip in the joints of the model.

        Args:
          times: seconds of the frames, if known.

        Raises:
          DataError: it cannot be used; says why.
        """
        # Times say more than a rate, which is for clips without them.
        fps = self._fps if times is None else None
        recording = Recording("", joints, fps=fps, times=times)
        clips, first = self._clips, self._first
        if clips is None or len(first) < _ENOUGH:
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
            if statement not in self._said:
                self._said.add(statement)
                self._say(statement)
        return model_clip(clip, self._model)


def model_clip(clip: Clip, model: Model) -> Float[np.ndarray, "m t v 3"]:
    """A clip in the joints of a model, with the persons who move most if there are too many."""
    joints, most = clip.joints, model.clip_shape[0]
    if len(joints) > most:
        moved = np.abs(np.diff(joints, axis=1)).sum(axis=(1, 2, 3))
        joints = joints[np.sort(np.argsort(-moved)[:most])]
    return map_joints(joints, COMMON, model.source)
