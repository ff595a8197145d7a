"""What the TPU's and the GPU's compilers make of the programs; neither device is needed.

  python scripts/benchmarks/aot.py --target v5e --json docs/results/aot_v5e.json
  python scripts/benchmarks/aot.py --target h100 --only stream --all

A compiler comes with `jax[tpu]` or `jax[cuda12]`, best in an environment of its own, which
`--python` names. For each program, a line of a Markdown table:

  moved     bytes that the compiler says it moves, padding included (v5e); on an H100, which has no
            such count, those of operands and results of all kernels, bodies of loops once
  floor     bytes that it must move at least, by the docstrings of the encoder and of stream.py
  FLOPs     the compiler's count (v5e alone)
  memory    arguments and scratch
  kernels   fusions and other instructions that do something: of the entry, of the loop's body
  gathers   gathers and scatters of a megabyte and more, those of augmentation included; copies: all
  collectives   number and megabytes, on each device
  ms        the compiler's estimate (v5e alone), entry and one pass of the loop; it has none for
            kernels that are written by hand
  compile   seconds, tracing and compiling, on this machine
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dynapurls_jax.commands import parser_of

ROOT = Path(__file__).parents[2]
PACKAGES = {"v5e": ("libtpu", "tpu"), "h100": ("jax_plugins.xla_cuda12", "cuda")}
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # a plain import of JAX would look for the device
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
CLOCK = 0.94e9  # of a v5e
# An H100 SXM by its data sheet and its device query, in the words of XLA's GpuTargetConfigProto.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84978434048
  l2_cache_size: 52428800
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def main() -> None:
    """Starts itself in the environment of the compiler, or compiles."""
    parser = parser_of(__doc__)
    parser.add_argument("--target", required=True, choices=list(PACKAGES))
    parser.add_argument("--python", default=sys.executable, help="of the compiler's environment")
    parser.add_argument("--target_config", type=Path, help="another GPU, in XLA's words")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of programs' names")
    parser.add_argument("--all", action="store_true", help="every test-time method, query and C")
    parser.add_argument("--json", type=Path, help="where figures are written")
    parser.add_argument("--text", type=Path, help="a folder for the compiled programs")
    options = parser.parse_args()
    if os.environ.get("DYNAPURLS_AOT") == options.target:
        compile_all(options)
        return
    module, extra = PACKAGES[options.target]
    if subprocess.run([options.python, "-c", f"import {module}"], capture_output=True).returncode:
        raise SystemExit(
            f"aot.py: {options.python} has no compiler for {options.target}: in an environment of "
            f"its own, pip install -e '.[{extra}]', then --python=<its python>"
        )
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | ENVIRONMENT
    environment |= {"PYTHONPATH": path, "DYNAPURLS_AOT": options.target}
    raise SystemExit(subprocess.run([options.python, *sys.argv], env=environment).returncode)


def compile_all(options: argparse.Namespace) -> None:
    """Prints the table as it grows, and writes the figures."""
    import jax
    from aot_programs import mesh_of_topology, programs
    from jax.experimental.topologies import get_topology_desc
    from timing import line, table

    from dynapurls_jax.encoders.jit import compiling_for

    def topology(devices: int) -> Any:
        if options.target == "v5e":
            name = "v5e:2x4" if devices > 4 else "v5e:2x2"
            return get_topology_desc(platform="tpu", topology_name=name)
        text = options.target_config.read_text() if options.target_config else H100
        return get_topology_desc("", "cuda", target_config=text, topology=f"1x1x{devices}")

    found = {}
    table(
        *("program", "moved GB", "floor GB", "GFLOP", "memory GB", "kernels", "in loop"),
        *("gathers", "copies", "collectives", "ms", "compile s"),
    )
    with compiling_for("tpu" if options.target == "v5e" else "gpu"):
        for program in programs(mesh_of_topology(topology), options.all):
            if any(part in program.name for part in options.only):
                found[program.name] = figures(program, options)
                line(program.name, *cells(found[program.name]))
            if options.json and program.name in found:
                write(options.json, options.target, jax.__version__, found)


def write(path: Path, target: str, version: str, found: dict[str, Any]) -> None:
    """Adds figures to those of a file, or replaces them."""
    before = json.loads(path.read_text())["programs"] if path.exists() else {}
    whole = {"target": target, "jax": version, "programs": before | found}
    path.write_text(json.dumps(whole, indent=1) + "\n")


def figures(program: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one program."""
    from compiled import facts

    start = time.perf_counter()
    lowered = program.lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    text, memory = compiled.as_text(), compiled.memory_analysis()
    if options.text:
        options.text.mkdir(parents=True, exist_ok=True)
        (options.text / f"{program.name.replace(' ', '_')}.txt").write_text(text)
    counts = facts(text)
    count = compiled.cost_analysis() if options.target == "v5e" else {}
    moved = counts["operand_bytes"] + counts["loop_operand_bytes"]
    return counts | {
        "moved_bytes": int(count.get("bytes accessed", moved)),
        "floor_bytes": program.floor and int(program.floor),
        "flops": count.get("flops"),
        "argument_bytes": memory.argument_size_in_bytes,
        "scratch_bytes": memory.temp_size_in_bytes,
        "trace_s": round(traced - start, 1),
        "compile_s": round(done - traced, 1),
    }


def cells(found: dict[str, Any]) -> list[str]:
    """A program's cells of the table."""

    def giga(value: float | None) -> str:
        return "" if value is None else f"{value / 1e9:.3g}"

    collectives = ", ".join(
        f"{kind['count']} {name} of {kind['bytes'] / 1e6:.2f} MB"
        for name, kind in found["collectives"].items()
    )
    cycles = found["estimated_cycles"] + found["loop_cycles"]
    return [
        giga(found["moved_bytes"]),
        giga(found["floor_bytes"]),
        giga(found["flops"]),
        f"{giga(found['argument_bytes'])} + {giga(found['scratch_bytes'])}",
        str(found["kernels"]),
        str(found["loop_kernels"]) if found["loop_kernels"] else "",
        str(found["large_gathers_scatters"]),
        str(found["copies"]),
        collectives,
        f"{1e3 * cycles / CLOCK:.3g}" if cycles else "",
        f"{found['trace_s']} + {found['compile_s']}",
    ]


if __name__ == "__main__":
    main()
