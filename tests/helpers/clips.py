"""Clips of a moving person."""

import numpy as np

from data_pipelines.animation import animate
from data_pipelines.skeletons import KINECT_V1
from data_pipelines.sketches import parse_sketch

WAVE = {
    "right hand": "hang > head out > (head aside > head out)*2 > hang",
    "left foot": "ground > knee > ground",
    "hips": "stand > dip > stand",
}


def person(frames: int = 24, **sketch: str) -> np.ndarray:
    """A person who waves, `[T, 20, 3]` of `KINECT_V1` in the project's frame."""
    return animate(parse_sketch(WAVE | sketch, "wave", "a test"), frames)


def by_names(names, body: np.ndarray) -> np.ndarray:
    """A body's joints in another order, by the names of `KINECT_V1`."""
    return body[:, [KINECT_V1.joints.index(name) for name in names]]
