"""Small graph networks, and variables away from their initial values."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.skeletons import KINECT_V1, KINECT_V2, Skeleton
from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.registry import ENCODERS

NAMES = ("stgcn", "agcn", "aagcn", "ctr_gcn", "dg_stgcn")
TREE_5 = (1, 1, 1, 2, 0)
TREE_17 = (0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14)  # the joints of COCO
SMALL = ((1, 1), (1, 1), (2, 2))  # without a residual, with one, wider with a stride


def skeleton_of(parents=None, joints=25) -> Skeleton:
    """A layout with these parents; or a Kinect's."""
    if parents is None:
        return {20: KINECT_V1, 25: KINECT_V2}[joints]
    names = tuple(f"joint{i}" for i in range(len(parents)))
    return replace(KINECT_V2, joints=names, parents=parents)


def encoder_of(name, **settings) -> SkeletonEncoder:
    """An encoder of three layers for five joints."""
    entry = ENCODERS.entry(name)
    sizes = {"width": 8, "layers": SMALL} | settings
    return entry.make(entry.settings(**sizes), skeleton_of(TREE_5))


def moved(variables):
    """Random values in the shapes of variables; kernels keep the scale of features."""
    rng = np.random.default_rng(0)

    def random(path, leaf):
        name, shape = path[-1].key, leaf.shape
        if name in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, shape), leaf.dtype)
        spread = np.prod(shape[:-1]) ** -0.5 if name == "kernel" else 0.3
        return jnp.asarray(rng.normal(size=shape) * spread, leaf.dtype)

    return jax.tree_util.tree_map_with_path(random, variables)
