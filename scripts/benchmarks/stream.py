"""Samples per millisecond of streams, against PyTorch, a Python loop and the machine's limits.

  python scripts/benchmarks/stream.py                 chunks, classes, queries, both methods
  python scripts/benchmarks/stream.py --classes 120 --queries label_free

All lines are of one run on one device, at the shapes of NTU RGB+D (`SHAPES`), row head, global
score, the paper's settings; every memory is full at the start, of all classes. Systems: `scan`,
`run_stream`; `loop`, the jitted step, its state donated, a call for each chunk and each prediction
read; `torch`, `tests/helpers/torch_refinement.py` (extra dev), eager, sample by sample.

Expected cost of a step of a chunk of B: C classes, S tokens of widths n and h, a head u wide, text
d wide, Q = 1 (label_free) or C (per_candidate) sets of queries, M = C * per_class drawn samples.
  one query r = S * (h + n) + n * u + u * d multiply-adds: attention, then the head
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

from reference import need_reference

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--classes", type=int, nargs="+", default=[5, 12, 24])
PARSER.add_argument("--chunks", type=int, nargs="+", default=[1, 8, 64, 256])
PARSER.add_argument("--queries", nargs="+", default=["label_free", "per_candidate"])
PARSER.add_argument("--samples", type=int, default=512, help="at most; fewer where slow")
PARSER.add_argument("--seconds", type=float, default=1.0, help="of one timed run, about")
PARSER.add_argument("--repeats", type=int, default=3, help="timed runs; the fastest counts")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds
    need_reference(PARSER)

import time
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from stream_setup import SETTINGS, SHAPES, Setup, adapter_for, make_setup, part
from timing import device_title, fastest, fastest_jax, limits, line, table

from dynapurls_jax.adaptation.api import State, StreamInfo, run_stream
from dynapurls_jax.host_memory import keep_memory

METHODS = ("static", "refined")


def main() -> None:
    """Prints tables as they grow."""
    options = PARSER.parse_args()
    keep_memory()  # for both frameworks: they share the process
    peaks = limits(options.repeats)
    print(
        f"{device_title()}; limits {peaks[0] / 1e9:.0f} GFLOP/s, {peaks[1] / 1e9:.0f} GB/s; "
        f"{SHAPES}, K = {SETTINGS.capacity}"
    )
    bench_streams(options, peaks)


def cost(classes: int, query: str, method: str, chunk: int) -> tuple[float, float]:
    """FLOPs and bytes of one step; see the top of this script."""
    S, n, h, u, d = (SHAPES[name] for name in "Snhud")
    queries = classes if query == "per_candidate" else 1
    drawn = classes * SETTINGS.per_class if method == "refined" else 0
    each = S * (h + n) + n * u + u * d
    flops = 2 * (chunk + 2 * drawn) * (queries * each + classes * d) + 2 * queries * d * h
    size = (chunk + 2 * drawn) * S * (n + h) + (3 if drawn else 1) * (n * u + u * d)
    return flops, 4 * (size + (12 * classes * d if drawn else 0))


def carry(classes: int) -> int:
    """Bytes of a refined stream's state."""
    S, n, h, d = (SHAPES[name] for name in "Snhd")
    return 4 * (classes * SETTINGS.capacity * S * (n + h) + 6 * classes * d)


def limit(work: tuple[float, float], peaks: tuple[float, float]) -> float:
    """Seconds of a step in which either the arithmetic or the memory is fully busy."""
    return max(amount / peak for amount, peak in zip(work, peaks, strict=True))


def fitting(work: tuple[float, float], chunk: int, options, peaks) -> int:
    """Samples of about `options.seconds`, if a step takes five times the limit.

    Args:
      work: FLOPs and bytes of a step.
    """
    steps = int(options.seconds / (5 * limit(work, peaks) + 2e-4))
    return max(4, min(options.samples // chunk, steps)) * chunk


def bench_streams(options, peaks) -> None:
    """Stored tokens and keys, to predictions; samples per millisecond."""
    systems = ("compile s", "scan", "loop", "torch", "scan : loop", "scan : torch")
    table("query", "C", "method", "chunk", *systems, "of limit", "carry MB")
    for query, classes, method in product(options.queries, options.classes, METHODS):
        torch_rate = None
        for chunk in options.chunks:
            work = cost(classes, query, method, chunk)
            setup = make_setup(classes, query, fitting(work, chunk, options, peaks))
            compile_s, scan = time_scan(method, chunk, setup, options.repeats)
            loop = time_loop(method, chunk, setup, options.repeats)
            if torch_rate is None:
                torch_rate = time_torch(method, query, setup, options.repeats)
            rates = [f"{rate:.2f}" for rate in (compile_s, scan, loop, torch_rate)]
            ratios = f"{scan / loop:.1f}", f"{scan / torch_rate:.1f}"
            share = f"{scan * 1e3 * limit(work, peaks) / chunk:.0%}"
            size = f"{carry(classes) / 1e6:.1f}" if method == "refined" else "0"
            line(query, classes, method, chunk, *rates, *ratios, share, size)


def time_scan(method: str, chunk: int, setup: Setup, repeats: int) -> tuple[float, float]:
    """Seconds to compile the scan, and its samples per millisecond, from a full memory."""
    features, adapter = setup.features, adapter_for(method, setup)
    start = adapter.init(setup.candidates)
    begin = time.perf_counter()
    program = run_stream.lower(adapter, start, features, chunk=chunk).compile()
    compile_s = time.perf_counter() - begin
    seconds = fastest_jax(repeats, program, filled(start, features), features)
    return compile_s, len(features.tokens) / seconds / 1e3


def time_loop(method: str, chunk: int, setup: Setup, repeats: int) -> float:
    """Samples per millisecond of the loop, from a full memory."""
    features, adapter = setup.features, adapter_for(method, setup)
    state, samples = filled(adapter.init(setup.candidates), features), len(features.tokens)
    step = jax.jit(adapter.step, donate_argnums=0)
    chunks = [part(features, i, i + chunk) for i in range(0, samples, chunk)]
    times = []
    for _ in range(1 + repeats):
        now = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        begin = time.perf_counter()
        for one in chunks:
            now, prediction = step(now, one)
            np.asarray(prediction.label)  # an online user reads each prediction
        jax.block_until_ready(now)
        times.append(time.perf_counter() - begin)
    return samples / min(times[1:]) / 1e3


def filled(state: State, features) -> State:
    """A state with its memory full of the stream's samples, so that each step is an update."""
    if not state.inner_state:
        return state
    memory = state.inner_state.memory
    numbers = jnp.arange(memory.priority.size).reshape(memory.priority.shape)
    numbers = numbers % len(features.tokens)
    memory = memory._replace(
        priority=jnp.full_like(memory.priority, 0.5),
        samples=jax.tree.map(lambda leaf: leaf[numbers], features),
    )
    inner_state = state.inner_state._replace(memory=memory)
    return jax.block_until_ready(state._replace(inner_state=inner_state))


def time_torch(method: str, query: str, setup: Setup, repeats: int) -> float:
    """Samples per millisecond of eager PyTorch, one sample at a time; on the GPU if JAX is."""
    import torch

    from tests.helpers.torch_refinement import TorchRefinement, TorchStatic, tensor

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    samples = list(zip(*(tensor(leaf, device) for leaf in setup.features), strict=True))
    if method == "static":
        system = TorchStatic(setup.variables, setup.candidates, query, device)
    else:
        info = StreamInfo.of(setup.features)._replace(chunks=len(samples))
        system = TorchRefinement(
            setup.variables, setup.candidates, query, SETTINGS, info, device=device
        )
        for number in range(system.priority.numel()):
            tokens, keys = samples[number % len(samples)]
            system.offer(number // SETTINGS.capacity, 0.5, tokens, keys)

    def run():
        for tokens, keys in samples:
            system.step(tokens, keys)
        if device == "cuda":
            torch.cuda.synchronize()

    return len(samples) / fastest(run, repeats) / 1e3


if __name__ == "__main__":
    main()
