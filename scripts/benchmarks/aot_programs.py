"""The programs that `aot.py` compiles: encoder, training, extraction, streams, the fit.

Each is lowered for devices that need not be there; no array is put on them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from scaling import lower_fit, lower_pretraining, on_mesh, pretraining_task
from stream import cost
from stream_setup import SETTINGS, SHAPES, Setup, make_setup

from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.config import load_config
from dynapurls_jax.encoders.base import trained_encoder
from dynapurls_jax.encoders.registry import make_encoder
from dynapurls_jax.reproduction.tables import ENCODERS
from dynapurls_jax.training.extract import on_all_devices
from dynapurls_jax.training.mesh import BATCH, divided, everywhere

ROOT = Path(__file__).parents[2]
# Of one frame of one person, forward, float32: see dynapurls_jax/encoders/shift_gcn.py.
FLOOR = 0.32e9 / 300
MAIN_METHODS = ("static", "dynapurls", "balanced")
NOT_HERE = ("tpt",)  # needs the tower of a text encoder
STEPS = 8  # of a stream's loop; its body counts once


class Program(NamedTuple):
    """A program to be compiled.

    Attributes:
      name: of the program.
      lower: gives what `jax.jit(f).lower(...)` gives.
      floor: bytes that it must move on each device; of a stream, in one step. None: not counted.
    """

    name: str
    lower: Callable[[], Any]
    floor: float | None


def programs(mesh_of: Callable[[int], Mesh], everything: bool) -> Iterator[Program]:
    """The main programs, or all.

    Args:
      mesh_of: a mesh of so many devices of the target.
    """
    for dtype in ("float32", "bfloat16"):
        for frames, clips in ((64, 64), (300, 32)):
            size = encoder_config(dtype)
            floor = 2 * clips * frames * FLOOR * (0.5 if dtype == "bfloat16" else 1)
            shape = f"{dtype}, T = {frames}, {2 * clips} persons"
            task = partial(pretraining_task, size, clips, frames)
            extract = partial(lower_extraction, size, clips, frames, mesh_of(1))
            yield Program(f"encoder inference, {shape}", extract, floor)
            train = partial(lower_task, task, mesh_of(1))
            yield Program(f"training step, {shape}", train, 3 * floor)
    for devices, statistics in product((4, 8), ("batch", "device")):
        size = encoder_config("bfloat16")
        size.pretrain.statistics = statistics
        sharded = partial(lower_task, partial(pretraining_task, size, 64), mesh_of(devices))
        floor = 3 * 2 * 64 * 300 * FLOOR / 2 / devices
        shape = f"bfloat16, T = 300, 64 clips on {devices}"
        own = ", own statistics" if statistics == "device" else ""
        yield Program(f"training step, {shape}{own}", sharded, floor)
    yield from encoders(mesh_of(1))
    fit = partial(lower_fit, encoder_config("float32"), (63_026, 3_000), 110, mesh_of(1))
    yield Program("fit of PURLS, an epoch of 63 026 clips", fit, None)
    yield from streams(mesh_of(1), everything)


def encoder_config(dtype: str, name: str = "shift_gcn") -> Any:
    """The configuration of NTU RGB+D 120 with an encoder, and features of a type."""
    config = load_config(ROOT / "configs" / "ntu120.py")
    config.encoder.name = name
    config.encoder[name].dtype = dtype
    return config


def encoders(mesh: Mesh, clips: int = 32, frames: int = 300) -> Iterator[Program]:
    """Inference and a training step of the encoders beside Shift-GCN."""
    for name in (name for name in ENCODERS if name != "shift_gcn"):
        config = encoder_config("bfloat16", name)
        floor = product_bytes(config, clips, frames)
        shape = f"{name}, bfloat16, T = {frames}, {2 * clips} persons"
        extract = partial(lower_extraction, config, clips, frames, mesh)
        yield Program(f"encoder inference, {shape}", extract, floor)
        train = partial(lower_task, partial(pretraining_task, config, clips, frames), mesh)
        yield Program(f"training step, {shape}", train, 3 * floor)


def product_bytes(config: Any, clips: int, frames: int) -> int:
    """Bytes of the operands and results of all products and convolutions of an inference.

    All other operations could be part of these.
    """
    module, variables, one = encoder_shapes(config, frames)
    batch = jax.ShapeDtypeStruct((clips, *one.shape[1:]), jnp.float32)
    run = partial(module.apply, method="tokens")
    return _product_bytes(jax.make_jaxpr(run)(variables, batch).jaxpr)


def _product_bytes(jaxpr: jax.extend.core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        total += sum(map(_product_bytes, jax.core.jaxprs_in_params(equation.params)))
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            arrays = [one.aval for one in (*equation.invars, *equation.outvars)]
            total += sum(one.size * one.dtype.itemsize for one in arrays)
    return total


def encoder_shapes(config: Any, frames: int) -> tuple[Any, Any, jax.ShapeDtypeStruct]:
    """The encoder, the shapes of its variables and of a clip."""
    module = make_encoder(config.encoder, KINECT_V2)
    one = jax.ShapeDtypeStruct((1, 2, frames, 25, 3), jnp.float32)
    init = partial(module.init, method="tokens")
    return module, jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), one), one


def lower_task(task: Callable[[], Any], mesh: Mesh) -> Any:
    """The step of stage 1."""
    return lower_pretraining(task(), mesh)


def lower_extraction(config: Any, clips: int, frames: int, mesh: Mesh) -> Any:
    """The program of stage 2 for a batch: clips in metres to tokens in half precision."""
    module, variables, one = encoder_shapes(config, frames)
    encoder = trained_encoder(module, {}, ("joint",), KINECT_V2)
    run = on_all_devices(encoder.tokens, mesh)
    batch = jax.ShapeDtypeStruct((clips, *one.shape[1:]), jnp.float32, sharding=divided(mesh))
    return run.lower(on_mesh(variables, everywhere(mesh)), batch, 2 * clips)


def streams(mesh: Mesh, everything: bool) -> Iterator[Program]:
    """The scans of test-time methods at the shapes of NTU RGB+D."""
    names = [name for name in ADAPTERS.names if name not in NOT_HERE]
    queries = ("label_free", "per_candidate") if everything else ("label_free",)
    for classes in (5, 12, 24, 120) if everything else (12,):
        for query in queries:
            setup = make_setup(classes, query, 64)
            for name in names if everything else MAIN_METHODS:
                for chunk in (1, 64):
                    kind = {"static": "static", "dynapurls": "refined"}.get(name)
                    floor = cost(classes, query, kind, chunk)[1] if kind else None
                    lower = partial(lower_stream, name, setup, chunk, mesh)
                    title = f"stream of {name}, {query}, C = {classes}, chunk {chunk}"
                    yield Program(title, lower, floor)


def lower_stream(name: str, setup: Setup, chunk: int, mesh: Mesh) -> Any:
    """The scan of a test-time method, label-free or per candidate, at its default settings."""
    entry = ADAPTERS.entry(name)
    settings = SETTINGS if name == "dynapurls" else entry.settings()
    method = entry.make(setup.model, setup.variables, settings, StreamInfo.of(setup.features))
    adapter = adapter_of(method)
    state = on_mesh(jax.eval_shape(adapter.init, setup.candidates), everywhere(mesh))
    features = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((STEPS * chunk, *leaf.shape[1:]), leaf.dtype),
        setup.features,
    )
    return run_stream.lower(adapter, state, on_mesh(features, everywhere(mesh)), chunk=chunk)


def mesh_of_topology(topology_of: Callable[[int], Any]) -> Callable[[int], Mesh]:
    """Meshes of the first devices of a topology that has enough.

    Args:
      topology_of: a topology with at least so many devices.
    """

    def mesh_of(count: int) -> Mesh:
        devices = list(topology_of(count).devices)[:count]
        return Mesh(np.array(devices), (BATCH,))

    return mesh_of


__all__ = ["SHAPES", "Program", "mesh_of_topology", "programs"]
