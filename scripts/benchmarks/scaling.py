"""What data parallel training costs: collectives of the compiled programs, memory, a cost model.

  python scripts/benchmarks/scaling.py                     NTU RGB+D 120 at full size, on 8 devices
  python scripts/benchmarks/scaling.py --devices 4 --remat
  python scripts/benchmarks/scaling.py --statistics device

Nothing is run: both stages are compiled for 8 devices that the CPU pretends to have, and the
programs' collectives are counted. The model of a step is then

  compute         the longer of FLOPs over peak and bytes over memory bandwidth, of the counts in
                  dynapurls_jax/encoders/shift_gcn.py, three times forward
  communication   2 (D - 1) / D * bytes / bandwidth + collectives * latency, none of it hidden

An efficiency is compute over the sum of both. The figures of chips are their data sheets'; those of
collectives (bandwidth reached, latency) are assumptions, given in the table. The result is an
expectation, no measurement.
"""

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--devices", type=int, default=8)
PARSER.add_argument("--batch", type=int, default=64, help="clips in a global batch of stage 1")
PARSER.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
PARSER.add_argument("--statistics", default="batch", help="pretrain.statistics")
PARSER.add_argument("--remat", action="store_true", help="encoder.shift_gcn.remat")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipelines.prepared import PreparedClips
from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.config import load_config
from dynapurls_jax.registry import settings_of
from dynapurls_jax.training import method_task, pretrain
from dynapurls_jax.training.epoch_program import Data, Run, fit_program, fresh_state, make_epoch
from dynapurls_jax.training.mesh import divided, everywhere, mesh_for
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.registry import make_method

ROOT = Path(__file__).parents[2]
KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
WIDTHS = {"f32": 4, "s32": 4, "u32": 4, "f16": 2, "bf16": 2, "pred": 1, "s64": 8, "f64": 8, "u8": 1}
# One person at T = 300, V = 25, width 64, forward: see dynapurls_jax/encoders/shift_gcn.py.
FLOPS, BYTES = 3.57e9, 0.32e9
PERSONS = 1.2  # a clip of NTU RGB+D, mean


@dataclass(frozen=True)
class Chip:
    """A device and its links.

    Attributes:
      flops, memory: peak FLOP/s in bfloat16, bytes/s, of the data sheet.
      link, latency: bytes/s that an all-reduce reaches, seconds that a small one takes; assumed.
      room: bytes of memory.
    """

    flops: float
    memory: float
    link: float
    latency: float
    room: float


CHIPS = {
    "v5e": Chip(197e12, 819e9, 90e9, 15e-6, 16e9),
    "H100": Chip(989e12, 3350e9, 370e9, 20e-6, 80e9),
}


def main() -> None:
    """Prints the tables of docs/studies/training.md."""
    options = PARSER.parse_args()
    pretend_devices(options.devices)
    config = load_config(ROOT / "configs" / "ntu120.py")
    config.pretrain.update(batch_size=options.batch, statistics=options.statistics)
    config.encoder.shift_gcn.update(dtype=options.dtype, remat=options.remat)
    for name, compiled in (
        ("stage 1, a step", compile_pretraining(pretraining_task(config, options.batch))),
        ("stage 3, an epoch", compile_fit(config, 63_026, 3_000, 110)),
    ):
        report(name, compiled)
        if name.startswith("stage 1"):
            print_efficiency(compiled, options)


def pretend_devices(number: int) -> None:
    """Makes this CPU pretend to be several devices; to be called before the first computation."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", number)


def pretraining_task(config, batch: int, frames: int = 300) -> pretrain.EncoderTask:
    """Stage 1 on NTU RGB+D 120's shapes: V = 25, two persons, 110 classes."""
    clips = constant((batch, 2, frames, 25, 3), np.float32)
    labels, indices = constant((batch,), int), np.arange(batch)
    prepared = PreparedClips(clips, KINECT_V2, labels, ())
    return pretrain.task_of(
        config, prepared, num_classes=110, indices=indices, labels=labels, seed=0
    )


def compile_pretraining(task: pretrain.EncoderTask) -> Any:
    """The step of stage 1 for a global batch, all persons present."""
    return lower_pretraining(task, mesh_for(task.batch_size, "batch")).compile()


def lower_pretraining(task: pretrain.EncoderTask, mesh: Mesh) -> Any:
    """The same, before it is compiled."""
    size, shape = task.batch_size, task.clips.clips.shape
    state = jax.eval_shape(lambda: pretrain.fresh_state(task))
    key = jax.eval_shape(lambda: jax.random.key(0))
    state, key, number = on_mesh((state, key, np.int32(0)), everywhere(mesh))
    batch = constant((size, *shape[1:]), np.float32), constant((size,), np.int32)
    clips, labels = on_mesh(batch, divided(mesh))
    step = pretrain.make_step(task, mesh)
    return step.lower(state, clips, labels, key, number, shape[1] * size // mesh.size)


def compile_fit(config, train: int, val: int, classes: int) -> Any:
    """An epoch of stage 3 on so many clips, T' = 3 and V = 25, CLIP's width."""
    mesh = mesh_for(config.fit.batch_size, "batch")
    return lower_fit(config, (train, val), classes, mesh).compile()


def lower_fit(config, counts: tuple[int, int], classes: int, mesh: Mesh) -> Any:
    """The same, before it is compiled.

    Args:
      counts: clips to train on, and to validate with.
    """
    settings = settings_of(method_task.FitSettings, config.fit, "fit")
    shapes = Shapes(KINECT_V2, (3, 25, 256), 512)

    def samples(count: int) -> method_task.Samples:
        padded = -(-count // mesh.size) * mesh.size
        labels = np.arange(padded, dtype=np.int32) % classes
        return method_task.Samples(constant((padded, 75, 256), np.float16), labels)

    task = method_task.MethodTask(
        method=make_method(config.method, shapes),
        settings=settings,
        shapes=shapes,
        train=samples(counts[0]),
        val=samples(counts[1]),
        text=constant((classes, 8, 512), np.float32),
        ids=range(counts[0]),
        seed=0,
        record={"method": {"name": config.method.name}},
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(partial(fresh_state, task), key, Data(task.train, task.val, task.text))
    run = Run(key, *(jax.ShapeDtypeStruct((), kind) for kind in (np.float32, np.int32)))
    one_run = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), (state, run)
    )
    state, runs = on_mesh(one_run, everywhere(mesh))
    train, val = on_mesh((task.train, task.val), divided(mesh))
    data = Data(train, val, on_mesh(task.text, everywhere(mesh)))
    return make_epoch(fit_program(task, mesh), mesh).lower(state, runs, data)


def constant(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zeros of this shape that take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def on_mesh(tree, sharding):
    """Shapes and types of arrays with a sharding."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def collectives(compiled) -> tuple[Counter, Counter]:
    """The number of a program's collectives of each kind, and the bytes of their results.

    Those inside of a loop are counted once.
    """
    count, size = Counter(), Counter()
    for line in compiled.as_text().splitlines():
        found = re.search(rf"= (.+?) ({KINDS})(-start)?\(", line)
        if found:
            count[found[2]] += 1
            size[found[2]] += sum(
                WIDTHS[kind] * math.prod(map(int, filter(None, shape.split(","))))
                for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found[1])
                if kind in WIDTHS
            )
    return count, size


def report(name: str, compiled) -> None:
    """Collectives and memory of one program."""
    count, size = collectives(compiled)
    kinds = ", ".join(f"{count[k]} {k} of {size[k] / 1e6:.2f} MB" for k in sorted(count))
    memory = compiled.memory_analysis()
    print(
        f"{name}: {kinds or 'no collectives'}; memory of a device: "
        f"arguments {memory.argument_size_in_bytes / 1e9:.2f} GB, "
        f"scratch {memory.temp_size_in_bytes / 1e9:.2f} GB"
    )


def print_efficiency(compiled, options) -> None:
    """The expected efficiency of stage 1: the global batch divided, or as many on each device."""
    count, size = collectives(compiled)
    number, total = sum(count.values()), sum(size.values())
    narrow = 0.5 if options.dtype == "bfloat16" else 1.0
    print("| chips | clips on a device | compute | communication | efficiency |")
    print("|---|---|---|---|---|")
    for name, chip in CHIPS.items():
        communication = number * chip.latency
        communication += 2 * (options.devices - 1) / options.devices * total / chip.link
        for clips in (options.batch // options.devices, options.batch):
            work = 3 * PERSONS * clips
            compute = max(work * FLOPS / chip.flops, work * BYTES * narrow / chip.memory)
            efficiency = compute / (compute + communication)
            print(
                f"| {options.devices} x {name} | {clips} | {1e3 * compute:.1f} ms | "
                f"{1e3 * communication:.2f} ms | {efficiency:.0%} |"
            )


if __name__ == "__main__":
    main()
