"""A grid of settings over several orders as one program, against one stream after the other.

  python scripts/benchmarks/sweep.py                  K x threshold, 16 settings, 3 orders
  python scripts/benchmarks/sweep.py --classes 5 --queries per_candidate

The shapes are those of `scripts/benchmarks/stream.py`; samples per millisecond in aggregate.
"""

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--classes", type=int, nargs="+", default=[5, 12])
PARSER.add_argument("--queries", nargs="+", default=["label_free", "per_candidate"])
PARSER.add_argument("--samples", type=int, default=512, help="at most; fewer where slow")
PARSER.add_argument("--repeats", type=int, default=3, help="timed runs; the fastest counts")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import jax
import jax.numpy as jnp
import numpy as np
from stream_setup import Setup, adapter_for, make_setup
from timing import device_title, fastest_jax, line, table

from dynapurls_jax.adaptation.api import Method, StreamInfo, run_stream
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.sweep import SweepTask, grid_of, sweep
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.zero_shot.base import ZeroShotMethod

CAPACITIES, THRESHOLDS, ORDERS = [2, 4, 8, 16], [0.0, 0.1, 0.2, 0.3], 3


def main() -> None:
    """Prints a table as it grows."""
    options = PARSER.parse_args()
    keep_memory()
    print(device_title())
    table("query", "C", "streams", "one by one, samples/ms", "at once, samples/ms", "ratio")
    for query in options.queries:
        for classes in options.classes:
            count = min(options.samples, 32 if query == "per_candidate" else 128)
            single, whole = rates(make_setup(classes, query, count), options.repeats)
            streams = ORDERS * len(CAPACITIES) * len(THRESHOLDS)
            line(query, classes, streams, f"{single:.2f}", f"{whole:.2f}", f"{whole / single:.1f}")


def rates(setup: Setup, repeats: int) -> tuple[float, float]:
    """Samples per millisecond of one stream, and of a grid over several orders in one program."""
    model, variables, candidates, features = setup
    count, rng = len(features.tokens), np.random.default_rng(1)
    orders = jnp.asarray(np.stack([rng.permutation(count) for _ in range(ORDERS)]))
    keys = jax.random.split(jax.random.key(2), ORDERS)
    grid = grid_of(capacity=CAPACITIES, threshold=THRESHOLDS)

    def make(model: ZeroShotMethod, info: StreamInfo, **cell) -> Method:
        settings = DynaPurlsSettings(**cell)
        return dynapurls(model, variables, settings, info, max_capacity=max(CAPACITIES))

    task = SweepTask(model, candidates, features)
    seconds = fastest_jax(repeats, sweep, make, task, orders, keys, grid)
    whole = ORDERS * len(grid["capacity"]) * count / seconds / 1e3
    adapter = adapter_for("refined", setup)
    state = adapter.init(candidates)
    return count / fastest_jax(repeats, run_stream, adapter, state, features) / 1e3, whole


if __name__ == "__main__":
    main()
