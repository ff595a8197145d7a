"""People that move, and the files in which users bring them."""

import numpy as np

from data_pipelines.animation import animate
from data_pipelines.formats.bvh import Bvh
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


def bvh_text(bvh: Bvh) -> str:
    """The file of a hierarchy whose joints come in the order of a walk through it."""
    lines = ["HIERARCHY"]

    def walk(joint: int) -> None:
        children = [child for child, parent in enumerate(bvh.parents) if parent == joint]
        name = bvh.names[joint]
        if name.endswith("_end"):
            lines.append("End Site")
        else:
            lines.append(f"{'JOINT' if bvh.parents[joint] >= 0 else 'ROOT'} {name}")
        lines.extend(["{", "OFFSET " + " ".join(map(repr, bvh.offsets[joint]))])
        if not name.endswith("_end"):
            channels = bvh.channels[joint]
            lines.append(f"\tCHANNELS {len(channels)} {' '.join(channels)}")
        for child in children:
            walk(child)
        lines.append("}")

    for joint, parent in enumerate(bvh.parents):
        if parent < 0:
            walk(joint)
    lines += ["MOTION", f"Frames: {len(bvh.motion)}", f"Frame Time: {bvh.frame_time!r}"]
    lines += [" ".join(map(repr, map(float, frame))) for frame in bvh.motion]
    return "\n".join(lines) + "\n"
