"""A grid of settings over several orders as one program, against one stream after the other.

  python scripts/benchmarks/sweep.py                  K x threshold, 16 settings, 3 orders
  python scripts/benchmarks/sweep.py --classes 5 --queries per_candidate

The shapes are those of `scripts/benchmarks/stream.py`; samples per millisecond in aggregate.
"""

import argparse
import json

# ruff: noqa: E402
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from dynapurls_jax.host_memory import keep_memory

keep_memory()

import jax
import jax.numpy as jnp
import numpy as np

from dynapurls_jax.adaptation import RefineSettings, dynapurls, grid_of, run_stream, sweep
from scripts.benchmarks.stream import adapter_for, line, setup, table, timed


def main() -> None:
    """Prints a table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 12])
    parser.add_argument("--queries", nargs="+", default=["label_free", "per_candidate"])
    parser.add_argument("--samples", type=int, default=512, help="at most; fewer where slow")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs; the fastest counts")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}")
    rows = bench(options)
    if options.json:
        options.json.write_text(json.dumps({"device": device.device_kind, "rows": rows}, indent=1))
        print(f"written: {options.json}")


def bench(options) -> list[dict]:
    """A grid of K x threshold over 3 orders as one program, against one stream after the other."""
    rows, number = [], 3
    grid = grid_of(capacity=[2, 4, 8, 16], threshold=[0.0, 0.1, 0.2, 0.3])
    streams = number * len(grid["capacity"])
    table("query", "C", "streams", "one by one, samples/ms", "at once, samples/ms", "ratio")
    for query in options.queries:
        for classes in options.classes:
            count = min(options.samples, 32 if query == "per_candidate" else 128)
            model, variables, text, stream = setup(classes, query, count)
            rng = np.random.default_rng(1)
            orders = jnp.asarray(np.stack([rng.permutation(count) for _ in range(number)]))
            keys = jax.random.split(jax.random.key(2), number)

            def make(model, sample, variables=variables, **cell):
                return dynapurls(model, variables, sample, RefineSettings(**cell))

            start = (make, model, text, stream, orders, keys, grid)
            whole = streams * count / timed(options.repeats, sweep, *start) / 1e3
            adapter = adapter_for("refined", model, variables, stream)
            start = (adapter, adapter.init(text), stream)
            single = count / timed(options.repeats, run_stream, *start) / 1e3
            rows.append({"query": query, "classes": classes, "single": single, "sweep": whole})
            line(query, classes, streams, f"{single:.2f}", f"{whole:.2f}", f"{whole / single:.1f}")
    return rows


if __name__ == "__main__":
    main()
