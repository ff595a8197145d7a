"""Stage 2: tokens of all clips from a trained encoder, and the accuracy of its classifier.

The clips of a batch are sharded over all devices of all processes; each device packs its own
persons. While the devices compute one batch, threads of the host read the next ones
(`padded_batches`), one of which is already on the devices, so that these do not wait
(scripts/benchmarks/extraction.py measures the rates).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from data_pipelines.array_store import open_or_make, open_store
from data_pipelines.batches import padded_batches
from data_pipelines.prepared import PreparedClips
from data_pipelines.progress import progress
from dynapurls_jax.encoders.base import TOKEN_DTYPE, clips_per_device
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.training.mesh import BATCH, DIVIDED, WHOLE, divide, everywhere, own_part
from dynapurls_jax.training.processes import from_first, gathered, is_first, wait_for_all
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.training.stages import identity_hash

if TYPE_CHECKING:
    from dynapurls_jax.training.pretrain import EncoderStage, EncoderTask


def accuracy(task: "EncoderTask", variables: dict, indices: np.ndarray) -> float | None:
    """Accuracy in [0, 1] of the classifier of stage 1 on the clips `indices` `[n]`.

    None if `indices` is empty, as when only training subjects performed the seen classes.
    """
    if not len(indices):
        return None
    predicted = class_logits(task, variables, indices).argmax(axis=-1)
    return float((predicted == task.labels[indices]).mean())


def class_logits(
    task: "EncoderTask", variables: dict, indices: np.ndarray
) -> Float[np.ndarray, "n classes"]:
    """Logits of the classifier of stage 1 on the clips `indices` `[n]`, one or more."""

    def logits(variables, clips, capacity):
        clips = task.derive(clips)
        return task.classifier.apply(variables, clips, capacity=capacity, **task.extra_inputs())

    return np.concatenate(
        list(encoded(logits, variables, task.clips, indices, title="classifying clips"))
    )


def extract(spec: RunSpec, stage: "EncoderStage") -> np.ndarray:
    """Tokens of all clips `[N, T', P, n]`, memory-mapped; missing ones are computed.

    All processes compute; the first one writes, and broadcasts the number of the first missing
    clip.
    """
    clips, encoder = spec.inputs.clips, stage.encoder
    assert clips is not None
    assert encoder is not None
    starts = []

    def chunks(first: int) -> Iterator[np.ndarray]:
        starts.append(from_first(first))
        everything = np.arange(len(clips.clips))
        return encoded(
            encoder.tokens,
            encoder.variables,
            clips,
            everything,
            title="extracting tokens",
            first=starts[0],
        )

    number, *clip = clips.clips.shape
    one = jax.ShapeDtypeStruct((1, *clip), np.float32)
    tokens = jax.eval_shape(lambda clips: encoder.tokens(encoder.variables, clips, clip[0]), one)
    folder = spec.folder / "tokens" / identity_hash(stage.identity)
    if is_first():
        shape = (number, *tokens.shape[1:])
        store = open_or_make(folder, stage.identity, shape, TOKEN_DTYPE, chunks)
        if not starts:
            from_first(number)  # nothing is missing
    else:
        for _ in chunks(number):
            pass
    wait_for_all("tokens are extracted")
    return store if is_first() else open_store(folder, stage.identity)


def mesh_of_all() -> Mesh:
    """A one-dimensional mesh of all devices."""
    return Mesh(np.array(jax.devices()), (BATCH,))


def on_all_devices(apply: Callable, mesh: Mesh) -> Callable:
    """Compiles `apply` of `encoded` with the clips of a batch sharded over the mesh."""

    @partial(jit, static_argnums=2)
    def run(variables, batch, capacity):
        on_one = partial(apply, capacity=capacity)
        divided = jax.shard_map(
            on_one, mesh=mesh, in_specs=(WHOLE, DIVIDED), out_specs=DIVIDED, check_vma=False
        )
        return divided(variables, batch)

    return run


def encoded(
    apply: Callable[..., Any],
    variables: dict,
    clips: PreparedClips,
    indices: np.ndarray,
    *,
    title: str,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Yields the results `[b, ...]` of an encoder on some clips, batch by batch, in order.

    Args:
      apply: `(variables, clips [b, M, T, V, 3], capacity) -> [b, ...]`, for the clips of a device.
      indices: `[n]` indices of the clips.
      title: title of the progress bar.
      first: number of leading `indices` to skip, as they were computed before.
    """
    if first == len(indices):
        return
    mesh = mesh_of_all()
    run = on_all_devices(apply, mesh)
    variables = jax.device_put(variables, everywhere(mesh))
    size, most = clips_per_device() * mesh.size, clips.clips.shape[1]
    batches = padded_batches(clips.clips, indices[first:], size, own_part(mesh, size))
    with progress(title, len(indices), first) as report:
        running, done = None, first
        for batch, real in batches:
            capacity = capacity_for(clips.persons[batch.indices], most, mesh.size)
            started = run(variables, divide(mesh, batch.local), capacity), real
            if running is not None:
                yield gathered(running[0])[: running[1]]
                done += running[1]
                report(done)
            running = started
        if running is not None:
            yield gathered(running[0])[: running[1]]
            report(len(indices))
