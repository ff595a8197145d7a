"""A trained encoder over many clips: their tokens, and the accuracy of its own classifier.

The clips of a batch are divided among all devices, each of which packs its own persons. While the
devices compute one batch, the host reads the next ones in threads (`padded_batches`) and puts one
of them on the devices: they never wait (scripts/bench_extraction.py shows the rates).
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from data_pipelines.array_store import open_or_make
from data_pipelines.batches import padded_batches
from data_pipelines.prepared import PreparedClips
from data_pipelines.progress import progress
from dynapurls_jax.encoders.compiled import jit
from dynapurls_jax.encoders.persons import capacity_for
from dynapurls_jax.encoders.shift_gcn import token_width
from dynapurls_jax.training.pretrain import encoder_of_variables, streams_of

TOKEN_DTYPE = np.float16  # of the store: half the bytes, 11 bits of each number


def clips_a_device() -> int:
    """Clips in the part of a batch that one device gets: few where caches are what is fast."""
    return 16 if jax.default_backend() == "cpu" else 128


def accuracy(
    config: ConfigDict, variables: dict, clips: PreparedClips, rows: np.ndarray, labels: np.ndarray
) -> float | None:
    """Share of the clips `rows` whose class the classifier of stage 1 finds, in [0, 1].

    None if there are no such clips, as where nobody but training subjects did the seen classes.

    Args:
      labels: `[n]` of these rows, positions among the seen classes.
    """
    if not len(rows):
        return None
    encoder, streams = encoder_of_variables(config, variables), streams_of(config, clips)

    def logits(variables, clips, capacity):
        return encoder.apply(variables, streams(clips), capacity=capacity)

    chunks = list(encoded(logits, variables, clips.clips, rows, "classifying clips"))
    return float((np.concatenate(chunks).argmax(axis=-1) == labels).mean())


def token_store(
    folder: Path, made_from: dict, config: ConfigDict, variables: dict, clips: PreparedClips
) -> np.ndarray:
    """Tokens of all clips `[N, T', V, n]`, memory-mapped; made, or gone on with, where missing."""

    def chunks(first: int) -> Iterator[np.ndarray]:
        apply, rows = tokens_of(config, variables, clips), np.arange(len(clips.clips))
        return encoded(apply, variables, clips.clips, rows, "extracting tokens", first)

    number, _, _, joints, _ = clips.clips.shape
    shape = (number, config.encoder.segments, joints, token_width(config.encoder.width))
    return open_or_make(folder, made_from, shape, TOKEN_DTYPE, chunks)


def tokens_of(config: ConfigDict, variables: dict, clips: PreparedClips) -> Callable:
    """The tokens `[b, T', V, n]` of some clips, in the shape of `encoded`'s `apply`."""
    encoder, streams = encoder_of_variables(config, variables), streams_of(config, clips)

    def apply(variables, clips, capacity):
        found = encoder.apply(variables, streams(clips), capacity, method="tokens")
        return jnp.asarray(found, TOKEN_DTYPE)

    return apply


def mesh_of_all() -> Mesh:
    """All devices of this process in a row; processes of a pod do not wait for one another here."""
    return Mesh(np.array(jax.local_devices()), ("clips",))


def on_all_devices(apply: Callable, mesh: Mesh) -> Callable:
    """The same function compiled, with the clips of a batch divided among the devices."""
    clips, whole = PartitionSpec("clips"), PartitionSpec()

    @partial(jit, static_argnums=2)
    def run(variables, batch, capacity):
        of_one = partial(apply, capacity=capacity)
        divided = jax.shard_map(of_one, mesh=mesh, in_specs=(whole, clips), out_specs=clips)
        return divided(variables, batch)

    return run


def encoded(
    apply: Callable,
    variables: dict,
    clips: np.ndarray,
    rows: np.ndarray,
    title: str,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Results of an encoder on some clips, batch by batch, in order.

    Args:
      apply: `(variables, clips [b, M, T, V, 3], capacity) -> [b, ...]`, of one device's clips.
      clips: `[N, M, T, V, 3]`, perhaps on disk.
      rows: `[n]` those that are wanted.
      title: of the progress bar.
      first: how many of `rows` were done before.
    """
    mesh = mesh_of_all()
    run = on_all_devices(apply, mesh)
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    with progress(title, len(rows), first) as report:
        running, done = None, first
        for batch, real in padded_batches(clips, rows[first:], clips_a_device() * mesh.size):
            capacity = max(capacity_for(part) for part in np.split(batch, mesh.size))
            batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("clips")))
            started = run(variables, batch, capacity), real
            if running is not None:
                yield np.asarray(running[0])[: running[1]]
                done += running[1]
                report(done)
            running = started
        if running is not None:
            yield np.asarray(running[0])[: running[1]]
            report(len(rows))
