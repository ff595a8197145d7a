"""What data parallel training costs: collectives of the compiled programs, memory, a cost model.

  python scripts/benchmarks/scaling.py                     NTU RGB+D 120 at full size, on 8 devices
  python scripts/benchmarks/scaling.py --devices 4 --remat

Nothing is run: both stages are compiled for 8 devices that the CPU pretends to have, and what the
devices say to one another is counted in the programs. The model of a step is then

  compute   the longer of FLOPs over peak and bytes over memory bandwidth, of the counts in
            dynapurls_jax/encoders/shift_gcn.py, three times forward
  speech    2 (D - 1) / D * bytes / bandwidth + collectives * latency, none of it hidden

An efficiency is compute over the sum of both. The figures of chips are their data sheets'; those of
collectives (bandwidth reached, latency) are assumptions, said in the table. What it says is
therefore an expectation, no measurement.
"""

import argparse
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
WIDTHS = {"f32": 4, "s32": 4, "u32": 4, "f16": 2, "bf16": 2, "pred": 1, "s64": 8, "f64": 8, "u8": 1}
# One person at T = 300, V = 25, width 64, forward: see dynapurls_jax/encoders/shift_gcn.py.
FLOPS, BYTES = 3.57e9, 0.32e9
PERSONS = 1.2  # a clip of NTU RGB+D, mean


@dataclass(frozen=True)
class Chip:
    """A device and its neighbours.

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
    """Prints the tables of docs/scaling.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64, help="clips in a global batch of stage 1")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--remat", action="store_true", help="encoder.remat")
    options = parser.parse_args()
    pretend_devices(options.devices)
    sys.path.insert(0, str(ROOT))
    from dynapurls_jax.config import load_config

    config = load_config(ROOT / "configs" / "ntu120.py")
    config.pretrain.batch_size = options.batch
    config.encoder.update(dtype=options.dtype, remat=options.remat)
    for name, compiled in (
        ("stage 1, a step", compile_pretraining(config, (options.batch, 2, 300, 25, 3), 110)),
        ("stage 3, an epoch", compile_alignment(config, 63_026, 3_000, 110)),
    ):
        report(name, compiled)
        if name.startswith("stage 1"):
            model(compiled, options)


def pretend_devices(number: int) -> None:
    """Before JAX starts: so many devices on this CPU."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={number}"
    os.environ["JAX_PLATFORMS"] = "cpu"


def compile_pretraining(config, shape: tuple[int, ...], classes: int) -> Any:
    """The step of stage 1 for a global batch of this shape, all persons present."""
    import jax
    import numpy as np

    from data_pipelines.prepared import PreparedClips
    from data_pipelines.skeletons import KINECT_V2
    from dynapurls_jax.training.mesh import divided, everywhere, mesh_for
    from dynapurls_jax.training.pretrain import fresh_state, make_step

    size, most = shape[:2]
    mesh = mesh_for(size, "batch")
    clips = PreparedClips(np.zeros((0, *shape[1:])), KINECT_V2, np.zeros(0, int), ())
    state = jax.eval_shape(lambda: fresh_state(config, shape, classes, 0, size))
    state, key, number = (
        on_mesh(tree, everywhere(mesh))
        for tree in (state, jax.eval_shape(lambda: jax.random.key(0)), np.int32(0))
    )
    batch = on_mesh((np.zeros(shape, np.float32), np.zeros(size, np.int32)), divided(mesh))
    step = make_step(config, clips, classes, size, mesh)
    return step.lower(state, *batch, key, number, most * size // mesh.size).compile()


def compile_alignment(config, train: int, val: int, classes: int) -> Any:
    """An epoch of stage 3 on so many clips, T' = 3 and V = 25, CLIP's width."""
    import jax
    import jax.numpy as jnp

    from dynapurls_jax.zero_shot.nn.partition import Text
    from dynapurls_jax.training import align
    from dynapurls_jax.training.mesh import divided, everywhere, mesh_for

    size, width, depth = config.alignment.batch_size, 512, 256
    mesh, model = mesh_for(size, "batch"), align.model_of(config, width)
    optimizer = align.optimizer_of(config.alignment)

    def samples(count: int) -> align.Samples:
        rows = -(-count // mesh.size) * mesh.size
        tokens = jax.ShapeDtypeStruct((rows, 75, depth), jnp.float16)
        return align.Samples(tokens, jax.ShapeDtypeStruct((rows,), jnp.int32))

    text = Text(jnp.zeros((classes, 8, width)), jnp.zeros((8, width)))

    def begin() -> align.AlignState:
        variables = model.init(jax.random.key(0), jnp.zeros((2, 75, depth)), text)
        state = (variables, optimizer.init(variables["params"]), variables)
        return align.AlignState(*state, jnp.float32(0), jnp.int32(0), jnp.int32(0))

    state, key = jax.eval_shape(begin), jax.eval_shape(lambda: jax.random.key(0))
    state, key, text = on_mesh((state, key, text), everywhere(mesh))
    data = [on_mesh(samples(count), divided(mesh)) for count in (train, val)]
    epoch = align.make_epoch(model, optimizer, (train, size), config.alignment.query, mesh)
    return epoch.lower(state, key, *data, text).compile()


def on_mesh(tree, sharding):
    """Shapes and types of arrays that lie so."""
    import jax

    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def collectives(compiled) -> tuple[Counter, Counter]:
    """How many collectives of each kind a program has, and the bytes of their results.

    What stands in a loop is counted once.
    """
    count, size = Counter(), Counter()
    for line in compiled.as_text().splitlines():
        found = re.search(rf"= (.+?) ({KINDS})(-start)?\(", line)
        if found:
            count[found[2]] += 1
            size[found[2]] += sum(
                WIDTHS[kind] * _product(shape)
                for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found[1])
                if kind in WIDTHS
            )
    return count, size


def _product(shape: str) -> int:
    result = 1
    for size in filter(None, shape.split(",")):
        result *= int(size)
    return result


def expected_bytes(state) -> int:
    """What one step of stage 1 must say: gradients once, each norm's two moments there and back.

    Not back to those of the input, on which no parameter depends.
    """
    import jax

    def size(tree) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    moments = 2 * size(state.batch_stats) - size(state.batch_stats["data_norm"])
    return 4 * (size(state.params) + moments)


def report(name: str, compiled) -> None:
    """Collectives and memory of one program."""
    count, size = collectives(compiled)
    said = ", ".join(f"{count[k]} {k} of {size[k] / 1e6:.2f} MB" for k in sorted(count))
    memory = compiled.memory_analysis()
    print(
        f"{name}: {said or 'no collectives'}; memory of a device: "
        f"arguments {memory.argument_size_in_bytes / 1e9:.2f} GB, "
        f"scratch {memory.temp_size_in_bytes / 1e9:.2f} GB"
    )


def model(compiled, options) -> None:
    """The expected efficiency of stage 1: the global batch divided, or as many on each device."""
    count, size = collectives(compiled)
    number, said = sum(count.values()), sum(size.values())
    narrow = 0.5 if options.dtype == "bfloat16" else 1.0
    print("| chips | clips on a device | compute | speech | efficiency |\n|---|---|---|---|---|")
    for name, chip in CHIPS.items():
        speech = number * chip.latency
        speech += 2 * (options.devices - 1) / options.devices * said / chip.link
        for clips in (options.batch // options.devices, options.batch):
            work = 3 * PERSONS * clips
            compute = max(work * FLOPS / chip.flops, work * BYTES * narrow / chip.memory)
            print(
                f"| {options.devices} x {name} | {clips} | {1e3 * compute:.1f} ms | "
                f"{1e3 * speech:.2f} ms | {compute / (compute + speech):.0%} |"
            )


if __name__ == "__main__":
    main()
