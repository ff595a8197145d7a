"""Samples per millisecond of streams: one lax.scan against a plain Python loop over samples.

  python scripts/bench_stream.py                 the demo model's shapes, random weights
  python scripts/bench_stream.py --json out.json

Expected cost of one refined step at chunk 1, label_free queries, global score (B = C * per_class
samples drawn from the memory, S tokens, widths n, h, hidden u, text d):
  FLOPs  about 3 * 2 * B * (S * (h + n) + n * u + u * d), the 3 for forward and backward; plus Adam,
         about 12 * 2 * C * G * d
  bytes  the drawn tokens and keys, B * S * (n + h) * 4, twice; scale, bias and their moments,
         6 * C * G * d * 4
The scan updates its carry in place. A loop that calls a jitted step pays for a dispatch, for
fetching each answer, and, without donation, for a copy of the whole state, most of it the memory,
C * K * S * (n + h) * 4 bytes.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dynapurls_jax.adaptation import RefineSettings, adapter_of, dynapurls, run_stream, static
from dynapurls_jax.alignment.model import make_model, mean_text
from dynapurls_jax.alignment.partition import Text, unit

# The demo: T' = 3 segments of 25 joints, encoder width 16, hashed text, 8 unseen classes.
SHAPES = {"S": 75, "n": 64, "h": 64, "hidden": 256, "d": 512, "C": 8, "G": 8}


def main() -> None:
    """Prints a table; the ratios are within this one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=500, help="length of the stream")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs; the median counts")
    parser.add_argument("--queries", nargs="+", default=["label_free", "per_candidate"])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"{device.device_kind} ({device.platform}), {options.samples} samples, {SHAPES}")
    rows = [row for query in options.queries for row in bench(query, options)]
    print(
        "| query | method | compile s | scan samples/ms | loop samples/ms | loop, donated state | "
        "scan : loop | scan : donated loop |\n|---|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print(
            f"| {row['query']} | {row['method']} | {row['compile_s']:.1f} | {row['scan']:.2f} | "
            f"{row['loop']:.2f} | {row['donated']:.2f} | {row['scan'] / row['loop']:.1f} | "
            f"{row['scan'] / row['donated']:.1f} |"
        )
    if options.json:
        record = {"device": device.device_kind, "shapes": SHAPES, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1))
        print(f"written: {options.json}")


def bench(query: str, options) -> list[dict]:
    """Static scoring and refinement with the paper's settings, chunk 1, for one query mode."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(options.samples, SHAPES["S"], SHAPES["n"])), jnp.float32)
    rows = unit(jnp.asarray(rng.normal(size=(SHAPES["C"], SHAPES["G"], SHAPES["d"])), jnp.float32))
    text = Text(rows, mean_text(rows))
    model = make_model(
        query=query,
        head="row",
        score="global",
        text_width=SHAPES["d"],
        attention=SHAPES["h"],
        hidden=SHAPES["hidden"],
    )
    variables = model.init(jax.random.key(0), tokens[:64], text)
    stream = jax.block_until_ready(jax.jit(model.encode)(variables, tokens))
    sample = jax.tree.map(lambda leaf: leaf[0], stream)
    settings = RefineSettings(horizon=options.samples)
    adapters = {
        "static": adapter_of(static(model, variables)),
        "dynapurls": adapter_of(dynapurls(model, variables, sample, settings)),
    }
    return [
        {"query": query, "method": name} | time_adapter(adapter, text, stream, options)
        for name, adapter in adapters.items()
    ]


def time_adapter(adapter, text, stream, options) -> dict:
    """Samples per millisecond of the scan and of two loops; the compilation of the scan apart."""
    start = time.perf_counter()
    run_stream.lower(adapter, adapter.init(text), stream).compile()
    compile_s = time.perf_counter() - start
    samples = [
        jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], stream) for i in range(options.samples)
    ]

    def scan():
        jax.block_until_ready(run_stream(adapter, adapter.init(text), stream))

    def loop(step):
        state = jax.tree.map(jnp.copy, adapter.init(text))  # donation must not eat the text
        for one in samples:
            state, prediction = step(state, one)
            int(prediction.label[0])  # an online user reads each answer before the next sample
        jax.block_until_ready(state)

    plain = jax.jit(adapter.step)
    donating = jax.jit(adapter.step, donate_argnums=0)
    return {
        "compile_s": compile_s,
        "scan": options.samples / median_ms(scan, options.repeats),
        "loop": options.samples / median_ms(lambda: loop(plain), options.repeats),
        "donated": options.samples / median_ms(lambda: loop(donating), options.repeats),
    }


def median_ms(run, repeats: int) -> float:
    """Median wall time of a call after one that is not counted, in milliseconds."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


if __name__ == "__main__":
    main()
