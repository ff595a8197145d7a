"""A small training in both stages, for processes with one or many devices; prints what came out.

python -m tests.helpers.parallel_case OUT [host:port,number,count]
"""

import sys
from pathlib import Path

import jax
import numpy as np

from data_pipelines.prepared import PreparedClips
from dynapurls_jax.config import default_config
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.training import encode, loop, processes
from dynapurls_jax.training.fit import Samples, align
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.pretrain import pretrain

CLIPS, CLASSES, SEED = 44, 4, 3  # 44: 5 batches of 8, and four clips over


def small_config():
    """Two steps' worth of everything that could differ between devices: two persons, dropout."""
    config = default_config()
    config.data.streams = ("joint", "bone")
    config.encoder.width = 4
    config.pretrain.epochs, config.pretrain.batch_size = 2, 8
    # Adam would blow up what rounding leaves of gradients that are zero: biases before a norm.
    config.pretrain.optimizer, config.pretrain.learning_rate = "sgd", 0.002
    config.alignment.update(attention=8, hidden=16, batch_size=16, epochs=3, dropout=0.2)
    config.alignment.learning_rate = 1e-3
    return config


def small_clips() -> tuple[PreparedClips, np.ndarray]:
    """Clips of one or two persons with labels that they show."""
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(CLIPS, 2, 8, 20, 3)).astype(np.float32)
    labels = np.arange(CLIPS) % CLASSES
    clips += labels[:, None, None, None, None]
    clips[::3, 1] = 0
    most = np.full(CLIPS, 2)  # never packed closer: each number of persons would be compiled
    return PreparedClips(clips, KINECT_V1, most, tuple(f"c{n}" for n in range(CLIPS))), labels


def train(folder: Path) -> dict[str, np.ndarray]:
    """Both stages and what lies between them; everything that must not depend on devices."""
    config, (clips, labels) = small_config(), small_clips()
    for stage in ("encoder", "align"):
        (folder / stage).mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder / "encoder" / "checkpoints")
    given = (config, clips, np.arange(CLIPS), labels, CLASSES, SEED, checkpoints)
    encoder = pretrain(*given, folder=folder / "encoder")
    share = encode.accuracy(config, encoder, clips, np.arange(CLIPS), labels)
    store = encode.token_store(folder / "tokens", {"small": 1}, config, encoder, clips)
    # Alignment is trained on tokens that are the same to the bit, to see what it adds.
    tokens = np.random.default_rng(1).normal(size=(CLIPS, 6, 16)).astype(np.float16)
    tokens += labels[:, None, None]
    text = np.random.default_rng(2).normal(size=(CLASSES, 8, 12)).astype(np.float32)
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    rest, held = slice(0, 37), slice(37, CLIPS)
    sides = [Samples(tokens[side], labels[side]) for side in (rest, held)]
    aligned, results = align(
        *(config, *sides, clips.ids[rest], jax.numpy.asarray(text), SEED),
        *(Checkpoints(folder / "align" / "checkpoints"), folder / "align"),
    )
    found = {"accuracy": np.array(share), "tokens": np.asarray(store, np.float32)}
    found |= {f"align {name}": np.array(value) for name, value in results.items()}
    for name, tree in (("encoder", encoder), ("align", aligned)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[name + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return found


def main() -> None:
    """Trains in a folder beside OUT and writes the arrays there."""
    out = Path(sys.argv[1])
    if len(sys.argv) > 2:
        processes.join(sys.argv[2])
    encode.clips_a_device = lambda: 2
    loop.ASK_EVERY, loop.LOG_SECONDS = 3, 1e9  # a record for each epoch, none by the clock
    found = train(out.with_suffix(""))
    print(f"{jax.process_count()} processes, {jax.device_count()} devices")
    if processes.is_first():
        np.savez(out, **found)


if __name__ == "__main__":
    main()
