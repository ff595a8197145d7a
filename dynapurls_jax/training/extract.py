"""A trained encoder over many clips: their tokens, and the accuracy of its own classifier.

The clips of a batch are divided among all devices of all processes, each of which packs its own
persons. While the devices compute one batch, the host reads the next ones in threads
(`padded_batches`) and puts one of them on the devices: they never wait
(scripts/benchmarks/extraction.py shows the rates).
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from data_pipelines.array_store import open_or_make, open_store
from data_pipelines.batches import padded_batches
from data_pipelines.prepared import PreparedClips
from data_pipelines.progress import progress
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.encoders.shift_gcn import token_width
from dynapurls_jax.training.mesh import BATCH, DIVIDED, WHOLE, divide, everywhere, own_part
from dynapurls_jax.training.pretrain import encoder_of_variables, streams_of
from dynapurls_jax.training.processes import gathered, is_first, of_the_first, wait_for_all

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

    chunks = list(encoded(logits, variables, clips, rows, "classifying clips"))
    return float((np.concatenate(chunks).argmax(axis=-1) == labels).mean())


def token_store(
    folder: Path, made_from: dict, config: ConfigDict, variables: dict, clips: PreparedClips
) -> np.ndarray:
    """Tokens of all clips `[N, T', V, n]`, memory-mapped; made, or gone on with, where missing.

    All processes compute, the first one writes and tells the others from which row on.
    """
    told = []

    def chunks(first: int) -> Iterator[np.ndarray]:
        told.append(of_the_first(first))
        apply, rows = tokens_of(config, variables, clips), np.arange(len(clips.clips))
        return encoded(apply, variables, clips, rows, "extracting tokens", told[0])

    number, _, _, joints, _ = clips.clips.shape
    shape = (number, config.encoder.segments, joints, token_width(config.encoder.width))
    if is_first():
        store = open_or_make(folder, made_from, shape, TOKEN_DTYPE, chunks)
        if not told:
            of_the_first(number)  # nothing is missing
    else:
        for _ in chunks(number):
            pass
    wait_for_all("tokens are extracted")
    return store if is_first() else open_store(folder, made_from)


def tokens_of(config: ConfigDict, variables: dict, clips: PreparedClips) -> Callable:
    """The tokens `[b, T', V, n]` of some clips, in the shape of `encoded`'s `apply`."""
    encoder, streams = encoder_of_variables(config, variables), streams_of(config, clips)

    def apply(variables, clips, capacity):
        found = encoder.apply(variables, streams(clips), capacity, method="tokens")
        return jnp.asarray(found, TOKEN_DTYPE)

    return apply


def mesh_of_all() -> Mesh:
    """All devices in a row."""
    return Mesh(np.array(jax.devices()), (BATCH,))


def on_all_devices(apply: Callable, mesh: Mesh) -> Callable:
    """The same function compiled, with the clips of a batch divided among the devices."""

    @partial(jit, static_argnums=2)
    def run(variables, batch, capacity):
        of_one = partial(apply, capacity=capacity)
        divided = jax.shard_map(of_one, mesh=mesh, in_specs=(WHOLE, DIVIDED), out_specs=DIVIDED)
        return divided(variables, batch)

    return run


def encoded(
    apply: Callable,
    variables: dict,
    clips: PreparedClips,
    rows: np.ndarray,
    title: str,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Results of an encoder on some clips, batch by batch, in order.

    Args:
      apply: `(variables, clips [b, M, T, V, 3], capacity) -> [b, ...]`, of one device's clips.
      rows: `[n]` those that are wanted.
      title: of the progress bar.
      first: how many of `rows` were done before.
    """
    if first == len(rows):
        return
    mesh = mesh_of_all()
    run = on_all_devices(apply, mesh)
    variables = jax.device_put(variables, everywhere(mesh))
    size, most = clips_a_device() * mesh.size, clips.clips.shape[1]
    batches = padded_batches(clips.clips, rows[first:], size, own_part(mesh, size))
    with progress(title, len(rows), first) as report:
        running, done = None, first
        for batch, real in batches:
            capacity = capacity_for(clips.persons[batch.rows], most, mesh.size)
            started = run(variables, divide(mesh, batch.own), capacity), real
            if running is not None:
                yield gathered(running[0])[: running[1]]
                done += running[1]
                report(done)
            running = started
        if running is not None:
            yield gathered(running[0])[: running[1]]
            report(len(rows))
