"""A report page of random data."""

import matplotlib.pyplot as plt
import numpy as np

from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.page.viewer import Clips, Figure, Page, viewer_data, write_html
from dynapurls_jax.text.granularities import GRANULARITIES

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
NAMES = ("wave", "kick & <b>run</b>", EVIL)
SEGMENTS, V = 3, KINECT_V2.num_joints


def small_run(count=12, persons=2, frames=40, seed=0):
    """Labels, inspection and clips of a run with random data."""
    rng = np.random.default_rng(seed)
    static = rng.dirichlet(np.ones(len(NAMES)), count).astype(np.float32)
    adapted = rng.dirichlet(np.ones(len(NAMES)), count).astype(np.float32)
    inspection = Inspection(
        samples=np.arange(count),
        order=rng.permutation(count),
        static=static,
        adapted=adapted,
        attention=rng.dirichlet(np.ones(SEGMENTS * V), (count, 8)).astype(np.float32),
        features=rng.normal(size=(count, 4)),
        class_vectors=rng.normal(size=(4, len(NAMES), 4)),
    )
    joints = rng.normal(size=(count, persons, frames, V, 3)).astype(np.float32)
    joints[::2, 1:] = 0  # every other clip has one person
    ids = [f"clip {n} {EVIL}" for n in range(count)]
    texts = [[f"{name}, {row}" for row in GRANULARITIES] for name in NAMES]
    labels = rng.integers(0, len(NAMES), count)
    clips = Clips(joints, np.arange(count), ids, KINECT_V2, "the class", True, texts)
    return labels, inspection, clips


def write_page(folder, labels, inspection, clips, compared=True):
    """A page with one figure."""
    figure, axis = plt.subplots()
    axis.plot([0, 1])
    figure.savefig(folder / "line.png")
    plt.close(figure)
    path = folder / "page.html"
    page = Page(
        title=f"a run {EVIL}",
        lead=f"What it shows {EVIL}",
        warning="SYNTHETIC",
        command="python -m something --name='<x>'",
        facts=[("50 %", EVIL)],
        summary=[("split", EVIL)],
        figures=[Figure(folder / "line.png", "A line", "It rises.")],
    )
    write_html(path, page, viewer_data(NAMES, labels, inspection, clips, compared))
    return path
