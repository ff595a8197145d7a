"""Clips per second from prepared clips on disk to tokens on disk, and where the time goes.

  python scripts/benchmarks/extraction.py                              256 clips of T = 64, width 64
  python scripts/benchmarks/extraction.py --frames 300 --clips 128     full length

Three rates: reading alone (`padded_batches`, read ahead, put on the devices, nothing computed), the
encoder alone (one batch that is on the devices already), and both together as in training, with
the store written. Two persons in each clip, random coordinates and weights. The devices never wait
if together is as fast as the encoder alone.
"""

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--frames", type=int, default=64, help="T, a multiple of 4")
PARSER.add_argument("--clips", type=int, default=256)
PARSER.add_argument("--width", type=int, default=64)
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.array_store import open_or_make
from data_pipelines.batches import padded_batches
from data_pipelines.prepared import PreparedClips
from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.config import default_config
from dynapurls_jax.encoders.base import (
    TOKEN_DTYPE,
    TrainedEncoder,
    clips_per_device,
    token_shape,
    trained_encoder,
)
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.encoders.registry import make_encoder
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.extract import encoded, mesh_of_all, on_all_devices
from dynapurls_jax.training.mesh import divided, everywhere

PERSONS = 2


def main() -> None:
    """Prints the rates."""
    options = PARSER.parse_args()
    keep_memory()
    size = clips_per_device() * jax.device_count()
    if options.clips % size:
        PARSER.error(f"--clips: expected a multiple of {size}, got {options.clips}")
    config = default_config()
    config.encoder.shift_gcn.width = options.width
    module = make_encoder(config.encoder, KINECT_V2)
    shape = (options.clips, PERSONS, options.frames, KINECT_V2.num_joints, 3)
    variables = module.init(jax.random.key(0), jnp.ones((1, *shape[1:])), method="tokens")
    encoder = trained_encoder(module, variables, ("joint",), KINECT_V2)
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}, {shape}, jax {jax.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
        # Clips on disk, as `prepare` leaves them.
        folder = Path(scratch) / "clips"
        array = open_or_make(folder, {}, shape, np.float32, lambda first: [values])
        ids = tuple(map(str, range(len(array))))
        clips = PreparedClips(array, KINECT_V2, np.full(len(array), PERSONS), ids)
        store = Path(scratch) / "tokens"
        for name, seconds in {
            "reading alone": read(clips, size),
            "encoder alone": compute(encoder, clips, size),
            "together": together(encoder, clips, size, store, token_shape(module, shape[1:])),
        }.items():
            print(f"{name:14} {options.clips / seconds:8.1f} clips/s")


def read(clips: PreparedClips, size: int) -> float:
    """Seconds of the host's work before batches can be computed."""
    start = time.perf_counter()
    for batch, _ in padded_batches(clips.clips, np.arange(len(clips.clips)), size):
        jax.block_until_ready(jax.device_put(batch.local))
    return time.perf_counter() - start


def compute(encoder: TrainedEncoder, clips: PreparedClips, size: int) -> float:
    """Seconds of the encoder on clips that are on the devices."""
    mesh = mesh_of_all()
    run = on_all_devices(encoder.tokens, mesh)
    variables = jax.device_put(encoder.variables, everywhere(mesh))
    batch = jax.device_put(clips.clips[:size], divided(mesh))
    capacity = capacity_for(clips.persons[:size], PERSONS, mesh.size)
    jax.block_until_ready(run(variables, batch, capacity))
    start = time.perf_counter()
    for _ in range(len(clips.clips) // size):
        jax.block_until_ready(run(variables, batch, capacity))
    return time.perf_counter() - start


def together(
    encoder: TrainedEncoder,
    clips: PreparedClips,
    size: int,
    folder: Path,
    token_shape: tuple[int, int, int],
) -> float:
    """Seconds of the whole, without the compilation, for which the first batch waits."""
    seconds = []

    def chunks(first):
        # One batch more, before the clock starts; it is not written.
        indices = np.concatenate([np.arange(size), np.arange(first, len(clips.clips))])
        batches = encoded(encoder.tokens, encoder.variables, clips, indices, title="tokens")
        next(batches)
        seconds.append(time.perf_counter())
        yield from batches
        seconds.append(time.perf_counter())

    open_or_make(folder, {}, (len(clips.clips), *token_shape), TOKEN_DTYPE, chunks)
    return seconds[1] - seconds[0]


if __name__ == "__main__":
    main()
