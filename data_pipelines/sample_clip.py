"""The clip that ships with the package, SYNTHETIC: an animated sketch of a wave, as a BVH file.

The clip is not a recording, and the universal model is trained on similar sketches. Its recognition
tests the installation, not the accuracy. After a change of the animation,
`python -m data_pipelines.sample_clip` writes the file again.
"""

from pathlib import Path

import numpy as np

from data_pipelines.animation import SKELETON, animate
from data_pipelines.atomic import write_text
from data_pipelines.formats.bvh import END, Bvh, bvh_text
from data_pipelines.sketches import parse_sketch

FILE = Path(__file__).with_name("synthetic_wave.bvh")
SKETCH = {
    "right hand": "hang > head aside > (head out > head aside)*3 > hang",
    "torso": "upright > tilt left > tilt left > upright",
}
_FRAMES, _FPS = 75, 30
_TO_BVH = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]])  # x to the left, y up, z forward
_POSITION = ["Xposition", "Yposition", "Zposition"]


def sample_text() -> str:
    """The text of the file: positions of joints relative to their parents, centimetres."""
    motion = animate(parse_sketch(SKETCH, FILE.stem, __file__), _FRAMES).astype(float)
    local = motion.copy()
    for child, parent in SKELETON.bones:
        local[:, child] -= motion[:, parent]
    local = (100 * local @ _TO_BVH.T).round(2) + 0.0  # no -0.0
    bvh = Bvh(frame_time=round(1 / _FPS, 6), motion=local.reshape(_FRAMES, -1))
    indices: dict[int, int] = {}  # joint of the skeleton to joint of the file
    for joint, name in enumerate(SKELETON.joints):
        indices[joint] = len(bvh.names)
        parent = SKELETON.parents[joint]
        bvh.names.append(name)
        bvh.parents.append(-1 if parent == joint else indices[parent])
        bvh.offsets.append(local[0, joint].tolist())
        bvh.channels.append(_POSITION)
        if joint not in SKELETON.parents:  # the format requires an end site below a leaf
            bvh.names.append(name + END)
            bvh.parents.append(indices[joint])
            bvh.offsets.append([0.0, 0.0, 0.0])
            bvh.channels.append([])
    return bvh_text(bvh)


if __name__ == "__main__":
    write_text(FILE, sample_text())
