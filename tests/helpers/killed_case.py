"""A small training and a small stream for tests that kill them; both print their progress.

python -m tests.helpers.killed_case train FOLDER
python -m tests.helpers.killed_case stream WORKDIR FOLDER     prints one line per sample
"""

import sys
import time
from pathlib import Path

import numpy as np

from data_pipelines import array_store
from data_pipelines.formats.sample_stream import Request
from dynapurls_jax.flags import run
from dynapurls_jax.serving import stream_checkpoint
from dynapurls_jax.serving.answer import answer_all
from dynapurls_jax.serving.frame_window import FrameWindow
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_inputs import ModelInputs
from dynapurls_jax.serving.replies import Replies
from dynapurls_jax.training import extract, loop
from dynapurls_jax.training.run import load_run
from tests.helpers.trained import SPLIT, small_config, small_inputs, train_small

SAMPLES = 60


def slow_down() -> None:
    """Writes a checkpoint at each step, and makes steps slow."""
    loop.CHECKPOINT_SECONDS = array_store.SAVE_EVERY = 0
    extract.clips_per_device = lambda: 4
    after, encoded = loop.Loop.after, extract.encoded

    def waiting_after(*args):
        time.sleep(0.05)
        after(*args)

    def waiting_encoded(*args, **kwargs):
        for chunk in encoded(*args, **kwargs):
            time.sleep(0.1)
            yield chunk

    loop.Loop.after, extract.encoded = waiting_after, waiting_encoded


def inputs():
    """Inputs of the small configuration, with more epochs."""
    config = small_config()
    config.pretrain.epochs, config.fit.epochs = 8, 30
    config.fit.patience = 6  # so that it stops early
    config.fit.learning_rate = 3e-3
    config.adapter.name = "balanced"
    return small_inputs(config)


def train(folder: Path):
    """Trains one run."""
    return train_small(inputs(), folder)


def load(workdir: Path):
    """Loads the finished run."""
    return load_run(inputs(), workdir, SPLIT, 0)


def stream(workdir: Path, folder: Path) -> None:
    """Resumes from the saved state and answers the remaining samples."""
    stream_checkpoint.SAVE_EVERY = 3
    live = LiveStream(ModelInputs(model_of(load(workdir))))
    tokens = np.random.default_rng(0).normal(size=(SAMPLES, 60, 16)).astype(np.float32)

    def rest():
        for number in range(int(live.state.samples), SAMPLES):
            time.sleep(0.02)
            yield Request(number, "tokens", tokens[number])

    for answer in answer_all(Replies(live, FrameWindow(1.0, 1.0)), rest(), folder):
        print(answer["line"], answer["class"], answer["confidence"], flush=True)


if __name__ == "__main__":
    kind, *folders = sys.argv[1:]
    del sys.argv[1:]
    if kind == "train":
        slow_down()
    work = {"train": train, "stream": stream}[kind]
    run(lambda _: print(work(*map(Path, folders))))
