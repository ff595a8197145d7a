"""Samples per millisecond of streams, against PyTorch, a Python loop and the machine's limits.

  python scripts/benchmarks/stream.py                            chunks, classes, queries, both methods
  python scripts/benchmarks/stream.py --classes 120 --queries label_free
  python scripts/benchmarks/stream.py --end-to-end               from clips

All rows are of one run on one device, at the shapes of NTU RGB+D (`SHAPES`), row head, global
score, the paper's settings; every memory is full at the start, of all classes. Systems: `scan`,
`run_stream`; `loop`, the jitted step, its state donated, a call for each chunk and each answer
read; `torch`, `tests/helpers/torch_refinement.py` (extra dev), eager, sample by sample.

Expected cost of a step of a chunk of B: C classes, S tokens of widths n and h, a head u wide, text
d wide, Q = 1 (label_free) or C (per_candidate) sets of queries, M = C * per_class drawn samples.
  one row   r = S * (h + n) + n * u + u * d multiply-adds: attention, then the head
  static    B * Q * r, the classes' products B * C * d, the queries Q * d * h
  refined   static, and 2 * M * Q * r: forward, and backward through the frozen head and attention;
            the classes' products likewise; Adam is nothing beside it
  bytes     tokens and keys, (B + 2 * M) * S * (n + h) * 4, as drawn ones are copied; the head,
            (n * u + u * d) * 4, refined three times; refined also 12 * C * d * 4 for scale, bias,
            moments
  carry     the memory, C * K * S * (n + h) * 4, and scale, bias, moments, 6 * C * d * 4
The limit: FLOPs (two a multiply-add) over the speed of a large product, or bytes over that of a
large copy, whichever takes longer; both are measured first.
"""

import argparse
import json

# ruff: noqa: E402
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from dynapurls_jax.host_memory import keep_memory

keep_memory()  # before JAX; for both frameworks: they share the process

import jax
import jax.numpy as jnp
import numpy as np

from dynapurls_jax.adaptation import RefineSettings, adapter_of, dynapurls, run_stream, static
from dynapurls_jax.zero_shot.purls import make_model, mean_text
from dynapurls_jax.zero_shot.nn.partition import Text, unit
from scripts.benchmarks.encoder import fastest, limits

SHAPES = {"S": 75, "n": 256, "h": 150, "u": 512, "d": 512, "G": 8}
SETTINGS = RefineSettings(threshold=0.0)  # everything is offered, whatever the random weights say


def main() -> None:
    """Prints tables as they grow."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 12, 24])
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--queries", nargs="+", default=["label_free", "per_candidate"])
    parser.add_argument("--methods", nargs="+", default=["static", "refined"])
    parser.add_argument(
        "--systems", nargs="+", default=["torch", "loop", "scan"], choices=["torch", "loop", "scan"]
    )
    parser.add_argument("--samples", type=int, default=512, help="at most; fewer where slow")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one timed run, about")
    parser.add_argument("--unroll", type=int, default=1, help="chunks in one turn of the scan")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs; the fastest counts")
    parser.add_argument("--end-to-end", action="store_true", help="only from clips")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    device = jax.devices()[0]
    peaks = limits(options.repeats)
    print(
        f"{device.device_kind} ({device.platform}), jax {jax.__version__}; limits "
        f"{peaks[0] / 1e9:.0f} GFLOP/s, {peaks[1] / 1e9:.0f} GB/s; {SHAPES}, K = {SETTINGS.slots}"
    )
    bench = bench_clips if options.end_to_end else bench_streams
    rows = bench(options, peaks)
    if options.json:
        record = {"device": device.device_kind, "shapes": SHAPES, "limits": peaks, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1))
        print(f"written: {options.json}")


def table(*columns: str) -> None:
    """The head of a Markdown table."""
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)


def line(*cells) -> None:
    """A row of it."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def cost(classes: int, query: str, method: str, chunk: int) -> tuple[float, float]:
    """FLOPs and bytes of one step; see above."""
    S, n, h, u, d = (SHAPES[name] for name in "Snhud")
    asking = classes if query == "per_candidate" else 1
    drawn = classes * SETTINGS.per_class if method == "refined" else 0
    row = S * (h + n) + n * u + u * d
    flops = 2 * (chunk + 2 * drawn) * (asking * row + classes * d) + 2 * asking * d * h
    size = (chunk + 2 * drawn) * S * (n + h) + (3 if drawn else 1) * (n * u + u * d)
    return flops, 4 * (size + (12 * classes * d if drawn else 0))


def carry(classes: int) -> int:
    """Bytes that a refined stream carries along."""
    S, n, h, d = (SHAPES[name] for name in "Snhd")
    return 4 * (classes * SETTINGS.slots * S * (n + h) + 6 * classes * d)


def setup(classes: int, query: str, samples: int):
    """A model with random weights, text to which its samples spread, and a stream."""
    S, n, d, G = (SHAPES[name] for name in "SndG")
    rng = np.random.default_rng(0)
    count = max(samples, 4 * classes)
    tokens = rng.normal(size=(count, 1, n)) + 0.3 * rng.normal(size=(count, S, n))
    tokens = jnp.asarray(tokens, jnp.float32)
    rows = unit(jnp.asarray(rng.normal(size=(classes, G, d)), jnp.float32))
    text = Text(rows, mean_text(rows))
    model = make_model(
        query=query,
        head="row",
        score="global",
        text_width=d,
        attention=SHAPES["h"],
        hidden=SHAPES["u"],
    )
    variables = model.init(jax.random.key(0), tokens[: 4 * classes], text)
    visual = jax.jit(model.encode)(variables, tokens)
    lie = jax.jit(model.project)(variables, part(visual, 4 * classes), text.query[None, None, :1])
    away = unit(lie[:, 0] - lie[:, 0].mean(axis=0))  # [4 C, 1, d]
    near = unit(0.3 * text.classes[:, :1] + away[:classes])
    text = text._replace(classes=text.classes.at[:, :1].set(near))
    return model, variables, text, jax.block_until_ready(part(visual, samples))


def part(visual, *where):
    """A slice of a stream."""
    return jax.tree.map(lambda leaf: leaf[slice(*where)], visual)


def adapter_for(method: str, model, variables, stream):
    """The adapter under test."""
    if method == "static":
        return adapter_of(static(model, variables))
    sample = jax.tree.map(lambda leaf: leaf[0], stream)
    return adapter_of(dynapurls(model, variables, sample, SETTINGS))


def fitting(classes: int, query: str, method: str, chunk: int, options, peaks) -> int:
    """Samples that take about so many seconds, were a step five times slower than the limit."""
    step = 5 * limit(cost(classes, query, method, chunk), peaks) + 2e-4
    steps = max(4, min(options.samples // chunk, int(options.seconds / step)))
    return steps * chunk


def limit(work: tuple[float, float], peaks: tuple[float, float]) -> float:
    """Seconds of a step in which either the arithmetic or the memory is fully busy."""
    return max(amount / peak for amount, peak in zip(work, peaks, strict=True))


def bench_streams(options, peaks) -> list[dict]:
    """Stored tokens and keys, to predictions; samples per millisecond."""
    rows = []
    table(
        *("query", "C", "method", "chunk", "compile s", "scan", "loop", "torch"),
        *("scan : loop", "scan : torch", "of limit", "carry MB"),
    )
    for query in options.queries:
        for classes in options.classes:
            for method in options.methods:
                torch_rate = None
                for chunk in options.chunks:
                    count = fitting(classes, query, method, chunk, options, peaks)
                    made = setup(classes, query, count)
                    row = time_jax(method, chunk, made, options)
                    if torch_rate is None and "torch" in options.systems:
                        torch_rate = time_torch(method, query, made, options)
                    row |= {"query": query, "classes": classes, "torch": torch_rate}
                    bound = chunk / limit(cost(classes, query, method, chunk), peaks) / 1e3
                    row["limit"] = bound
                    rows.append(row)
                    show(row)
    return rows


def show(row: dict) -> None:
    """One measured row."""

    def rate(name):
        return f"{row[name]:.2f}" if row.get(name) else "-"

    def ratio(name):
        return f"{row['scan'] / row[name]:.1f}" if row.get("scan") and row.get(name) else "-"

    share = f"{row['scan'] / row['limit']:.0%}" if row.get("scan") else "-"
    held = f"{carry(row['classes']) / 1e6:.1f}" if row["method"] == "refined" else "0"
    line(
        *(row[name] for name in ("query", "classes", "method", "chunk")),
        *(rate(name) for name in ("compile_s", "scan", "loop", "torch")),
        *(ratio("loop"), ratio("torch"), share, held),
    )


def time_jax(method: str, chunk: int, made, options) -> dict:
    """Samples per millisecond of the scan and of the loop, from a memory that is full."""
    model, variables, text, stream = made
    samples = len(stream.tokens)
    adapter = adapter_for(method, model, variables, stream)
    begin = time.perf_counter()
    program = run_stream.lower(
        adapter, adapter.init(text), stream, chunk=chunk, unroll=options.unroll
    ).compile()
    row = {"method": method, "chunk": chunk, "compile_s": time.perf_counter() - begin}
    state = filled(adapter.init(text), stream)
    if "scan" in options.systems:
        row["scan"] = samples / timed(options.repeats, program, state, stream) / 1e3
    if "loop" in options.systems:
        step = jax.jit(adapter.step, donate_argnums=0)
        chunks = [part(stream, i, i + chunk) for i in range(0, samples, chunk)]
        times = []
        for _ in range(1 + options.repeats):
            now = jax.block_until_ready(jax.tree.map(jnp.copy, state))
            begin = time.perf_counter()
            for one in chunks:
                now, prediction = step(now, one)
                np.asarray(prediction.label)  # an online user reads each answer
            jax.block_until_ready(now)
            times.append(time.perf_counter() - begin)
        row["loop"] = samples / min(times[1:]) / 1e3
    return row


def filled(state, stream):
    """A state whose memory is full of the stream's samples, so that each step is an update."""
    if not state.own:
        return state
    memory = state.own.memory
    number = jnp.arange(memory.priority.size).reshape(memory.priority.shape) % len(stream.tokens)
    memory = memory._replace(
        priority=jnp.full_like(memory.priority, 0.5),
        samples=jax.tree.map(lambda leaf: leaf[number], stream),
    )
    return jax.block_until_ready(state._replace(own=state.own._replace(memory=memory)))


def time_torch(method: str, query: str, made, options) -> float:
    """Samples per millisecond of eager PyTorch, one sample at a time; on the GPU if JAX is."""
    import torch

    from tests.helpers.torch_refinement import TorchRefinement, TorchStatic, tensor

    _, variables, text, stream = made
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    samples = list(zip(*(tensor(leaf, device) for leaf in stream), strict=True))
    if method == "static":
        system = TorchStatic(variables, text, query, device)
    else:
        shapes = [leaf.shape[1:] for leaf in stream]
        system = TorchRefinement(variables, text, query, SETTINGS, shapes, device)
        for number in range(system.priority.numel()):
            label = number // SETTINGS.slots
            system.offer(label, 0.5, *samples[number % len(samples)])

    def run():
        for one in samples:
            system.step(*one)
        if device == "cuda":
            torch.cuda.synchronize()

    return len(samples) / fastest(run, options.repeats) / 1e3


def timed(repeats: int, function, *arguments, **named) -> float:
    """Seconds of a call of a JAX function."""
    return fastest(lambda: jax.block_until_ready(function(*arguments, **named)), repeats)


def bench_clips(options, peaks) -> list[dict]:
    """From clips of T = 64, two persons: Shift-GCN and keys in batches, then the stream."""
    from dynapurls_jax.encoders.jit import jit
    from dynapurls_jax.encoders.shift_gcn import ShiftGCN

    rows, batch = [], 16 if jax.default_backend() == "cpu" else 128
    encoder = ShiftGCN(60, 64)
    clips = jax.random.normal(jax.random.key(0), (batch, 2, 64, 25, 3))
    weights = jit(encoder.init)(jax.random.key(1), clips)
    tokens_of = jit(lambda weights, clips: encoder.apply(weights, clips, method="tokens"))
    encoder_s = timed(options.repeats, tokens_of, weights, clips)
    tokens = tokens_of(weights, clips).reshape(batch, SHAPES["S"], SHAPES["n"])
    table(
        "query", "C", "method", "encoder ms", "keys ms", "stream ms", "clips/s", "encoder's share"
    )
    for query in options.queries:
        for classes in options.classes:
            made = setup(classes, query, 4 * batch)
            keys_s = timed(options.repeats, jax.jit(made[0].encode), made[1], tokens)
            for method in options.methods:
                row = time_jax(method, 1, made, options)
                parts = [encoder_s / batch, keys_s / batch, 1e-3 / row["scan"]]
                rows.append(row | {"query": query, "classes": classes, "seconds": parts})
                line(
                    *(query, classes, method, *(f"{1e3 * part:.3f}" for part in parts)),
                    *(f"{1 / sum(parts):.1f}", f"{parts[0] / sum(parts):.0%}"),
                )
    return rows


if __name__ == "__main__":
    main()
