"""Small raw files of the Kinect v1 datasets, and corpora read from raw files."""

import io
import json

import numpy as np
import scipy.io

from data_pipelines.corpus import Corpus
from data_pipelines.datasets import load_corpus
from data_pipelines.settings import DataSettings


def load(name, manual_dir="", **changes) -> Corpus:
    """The corpus of a dataset whose raw files are in `manual_dir`."""
    return load_corpus(DataSettings(name, str(manual_dir), **changes))


def utd_file(joints=None, key="d_skel") -> bytes:
    """A MATLAB file of UTD-MHAD."""
    joints = np.random.default_rng(0).normal(size=(20, 3, 9)) if joints is None else joints
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {key: joints})
    return buffer.getvalue()


def ucla_file(frames=5, label=7, **changes) -> bytes:
    """A JSON file of NW-UCLA."""
    joints = np.random.default_rng(0).normal(size=(frames, 20, 3)).tolist()
    return json.dumps({"file_name": "x", "skeletons": joints, "label": label} | changes).encode()


def gator_lines(count=4) -> list[str]:
    """A CSV file of Kinder-Gator, line by line."""
    rng = np.random.default_rng(0)
    names = ["HipCenter", "Spine", "ShoulderCenter", "Head"]
    names += [f"{j}{s}" for s in ("Left", "Right") for j in ("Shoulder", "Elbow", "Wrist", "Hand")]
    names += [f"{j}{s}" for s in ("Left", "Right") for j in ("Hip", "Knee", "Ankle", "Foot")]
    header = ["Timestamp", *(n + a for n in names for a in "XYZ"), "User-ID", "Action", ""]
    body = [
        ",".join([f"{33 * i}", *(f"{x:.4f}" for x in rng.normal(size=60)), "103", "Climb", ""])
        for i in range(count)
    ]
    return [",".join(header), *body]
