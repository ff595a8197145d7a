"""Clips per second from prepared clips on disk to tokens on disk, and where the time goes.

  python scripts/benchmarks/extraction.py                              256 clips of T = 64, width 64
  python scripts/benchmarks/extraction.py --frames 300 --clips 128     full length

Three rates: reading alone (`padded_batches`, read ahead, put on the devices, nothing computed), the
encoder alone (one batch that is on the devices already), and both together as training runs them,
with the writing of the store. Two persons in each clip, random coordinates and weights. The devices
wait for nothing if together is as fast as the encoder alone.
"""

import argparse
import tempfile
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.array_store import open_or_make
from data_pipelines.batches import padded_batches
from data_pipelines.prepared import PreparedClips
from dynapurls_jax.config import default_config
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.host_memory import keep_memory
from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.training import encode
from dynapurls_jax.training.pretrain import encoder_of


def main() -> None:
    """Prints the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=64, help="T, a multiple of 4")
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    keep_memory()
    config = default_config()
    config.encoder.width = options.width
    size = encode.clips_a_device() * jax.device_count()
    if options.clips % size:
        parser.error(f"--clips: expected a multiple of {size}, got {options.clips}")
    shape = (options.clips, 2, options.frames, KINECT_V2.num_joints, 3)
    variables = encoder_of(config, 60).init(jax.random.key(0), jnp.ones((1, *shape[1:])))
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {shape}, jax {jax.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        clips = PreparedClips(random_store(Path(scratch) / "clips", shape), KINECT_V2)
        for name, seconds in {
            "reading alone": read(clips, size),
            "encoder alone": compute(config, variables, clips, size),
            "together": together(Path(scratch), config, variables, clips, size),
        }.items():
            print(f"{name:14} {options.clips / seconds:8.1f} clips/s")


def random_store(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Clips on disk, as `prepare` leaves them."""
    rng = np.random.default_rng(0)

    def chunks(first):
        for start in range(first, shape[0], 64):
            yield rng.standard_normal((min(64, shape[0] - start), *shape[1:]), np.float32)

    return open_or_make(folder, {}, shape, np.float32, chunks)


def read(clips: PreparedClips, size: int) -> float:
    """Seconds of everything that the host does before a batch can be computed."""
    start = time.perf_counter()
    for batch, _ in padded_batches(clips.clips, np.arange(len(clips.clips)), size):
        capacity_for(batch)
        jax.block_until_ready(jax.device_put(batch))
    return time.perf_counter() - start


def compute(config, variables: dict, clips: PreparedClips, size: int) -> float:
    """Seconds of the encoder if its clips lay on the devices already."""
    mesh = encode.mesh_of_all()
    run = encode.on_all_devices(encode.tokens_of(config, variables, clips), mesh)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    batch = jax.device_put(clips.clips[:size], NamedSharding(mesh, PartitionSpec("clips")))
    capacity = capacity_for(clips.clips[: encode.clips_a_device()])
    jax.block_until_ready(run(variables, batch, capacity))
    start = time.perf_counter()
    for _ in range(len(clips.clips) // size):
        jax.block_until_ready(run(variables, batch, capacity))
    return time.perf_counter() - start


def together(scratch: Path, config, variables: dict, clips: PreparedClips, size: int) -> float:
    """Seconds of the whole, without the compilation, which the first batch waits for."""
    seconds = []

    def chunks(apply, variables, clips, rows, *rest):
        # One batch more, before the clock starts; it is not written.
        rows = np.concatenate([rows[:size], rows])
        for number, chunk in enumerate(encoded(apply, variables, clips, rows, *rest)):
            if number == 0:
                seconds.append(time.perf_counter())
            else:
                yield chunk
        seconds.append(time.perf_counter())

    encoded = encode.encoded
    with mock.patch.object(encode, "encoded", chunks):
        encode.token_store(scratch / "tokens", {}, config, variables, clips)
    return seconds[1] - seconds[0]


if __name__ == "__main__":
    main()
