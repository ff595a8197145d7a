"""A small training of both stages, for processes with one or many devices; prints their number.

python -m tests.helpers.parallel_case OUT [host:port,number,count]
"""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from data_pipelines.prepared import PreparedClips
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.config import default_config
from dynapurls_jax.encoders.base import trained_encoder
from dynapurls_jax.registry import settings_of
from dynapurls_jax.training import extract, loop, processes
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.method_task import FitSettings, MethodTask, Samples
from dynapurls_jax.training.pretrain import EncoderStage, EncoderTask, task_of, train_encoder
from dynapurls_jax.training.run import make_spec
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.registry import make_method
from tests.helpers.fitting import trained_together
from tests.helpers.trained import SPLIT, small_inputs

CLIPS, CLASSES, SEED = 44, 4, 3  # 44: 5 batches of 8, and four remaining clips


def small_config():
    """A configuration with everything that could differ between devices, such as dropout."""
    config = default_config()
    config.data.streams = ("joint", "bone")
    config.encoder.shift_gcn.width = 4
    config.pretrain.epochs, config.pretrain.batch_size = 2, 8
    # Adam would amplify rounding in gradients that are zero: biases before a normalisation.
    config.pretrain.optimizer, config.pretrain.learning_rate = "sgd", 0.002
    config.method.purls.update(attention=8, hidden=16, dropout=0.2)
    config.fit.update(batch_size=16, epochs=3, learning_rate=1e-3)
    return config


def encoder_task() -> EncoderTask:
    """Clips of one or two persons, with values that depend on the labels."""
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(CLIPS, 2, 8, 20, 3)).astype(np.float32)
    labels = np.arange(CLIPS) % CLASSES
    clips += labels[:, None, None, None, None]
    clips[::3, 1] = 0
    most = np.full(CLIPS, 2)  # not packed: each number of persons would be compiled
    prepared = PreparedClips(clips, KINECT_V1, most, tuple(f"c{n}" for n in range(CLIPS)))
    everything = {"num_classes": CLASSES, "indices": np.arange(CLIPS), "labels": labels}
    return task_of(small_config(), prepared, **everything, seed=SEED)


def method_task() -> MethodTask:
    """Tokens that are bitwise equal in all processes, to test the method's training alone."""
    config, labels = small_config(), np.arange(CLIPS) % CLASSES
    tokens = np.random.default_rng(1).normal(size=(CLIPS, 6, 16)).astype(np.float16)
    tokens += labels[:, None, None]
    text = np.random.default_rng(2).normal(size=(CLASSES, 8, 12)).astype(np.float32)
    shapes = Shapes(KINECT_V1, (1, 6, 16), 12)
    return MethodTask(
        method=make_method(config.method, shapes),
        settings=settings_of(FitSettings, config.fit, "fit"),
        shapes=shapes,
        train=Samples(tokens[:37], labels[:37]),
        val=Samples(tokens[37:], labels[37:]),
        text=text / np.linalg.norm(text, axis=-1, keepdims=True),
        ids=[f"c{n}" for n in range(37)],
        seed=SEED,
        record={"method": {"name": "purls"}},
    )


def train(folder: Path) -> dict[str, np.ndarray]:
    """Trains both stages with the extraction between; returns what must not depend on devices."""
    for stage in ("encoder", "method"):
        (folder / stage).mkdir(parents=True, exist_ok=True)
    task = encoder_task()
    checkpoints = Checkpoints(folder / "encoder" / "checkpoints")
    variables = train_encoder(task, checkpoints, folder / "encoder")
    share = extract.accuracy(task, variables, task.indices)
    params = {key: leaf for key, leaf in variables["params"].items() if key != "classifier"}
    encoder = trained_encoder(
        task.encoder, {**variables, "params": params}, task.streams, task.clips.skeleton
    )
    inputs = replace(small_inputs(), clips=task.clips)
    spec = replace(make_spec(inputs, folder, SPLIT, 0), folder=folder)
    store = extract.extract(spec, EncoderStage(encoder, {"small": 1}, {}))
    ((method, results),) = trained_together([method_task()], [folder / "method"])
    found = {"accuracy": np.array(share), "tokens": np.asarray(store, np.float32)}
    found |= {f"method {name}": np.array(value) for name, value in results.items()}
    for name, tree in (("encoder", variables), ("method", method)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[name + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return found


def main() -> None:
    """Trains in a folder beside OUT and writes the arrays there."""
    out = Path(sys.argv[1])
    if len(sys.argv) > 2:
        processes.join(sys.argv[2])
    extract.clips_per_device = lambda: 2
    loop.AGREE_EVERY, loop.LOG_SECONDS = 3, 1e9  # records depend on epochs, not on time
    found = train(out.with_suffix(""))
    print(f"{jax.process_count()} processes, {jax.device_count()} devices")
    if processes.is_first():
        np.savez(out, **found)


if __name__ == "__main__":
    main()
