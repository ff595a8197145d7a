"""Clips per second of Shift-GCN, training and inference, against PyTorch and the machine's limits.

  python scripts/benchmarks/encoder.py                            a sweep over batches, T = 64
  python scripts/benchmarks/encoder.py --frames 300 --batches 4   full length
  python scripts/benchmarks/encoder.py --torch eager compile      torch.compile as well
  python scripts/benchmarks/encoder.py --no_keep_memory           with the system's default malloc

All lines are of one run on one device, random clips of two persons, width 64, V = 25. PyTorch is
`tests/helpers/torch_shift_gcn.py` (extra dev). Limits: a large matrix product and a large copy are
timed first; an encoder can be no faster than FLOPs over the one and bytes over the other, counted
in `dynapurls_jax/encoders/shift_gcn.py`.
"""

from reference import need_reference

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--frames", type=int, default=64, help="T, a multiple of 4")
PARSER.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 16], help="in clips")
PARSER.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
PARSER.add_argument("--torch", nargs="*", default=["eager"], choices=["eager", "compile"])
PARSER.add_argument("--repeats", type=int, default=3, help="timed runs; the fastest counts")
PARSER.add_argument("--no_keep_memory", action="store_true")
if __name__ == "__main__":
    # Before JAX is imported, which takes seconds.
    if PARSER.parse_args().torch:
        need_reference(PARSER)

import time
from functools import partial

import jax
import jax.numpy as jnp
import optax
from timing import device_title, fastest, limits, line, table

from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.shift_gcn import ShiftGCN
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.classifiers import Classifier
from dynapurls_jax.training.pretrain import PretrainState

JOINTS, PERSONS, CLASSES, WIDTH = 25, 2, 60, 64
# One person at T = 300, forward; training takes three times as much.
FLOPS, BYTES = 2 * 1.78464e9 / 300, 0.319e9 / 300  # for each frame


def main() -> None:
    """Prints a table as it grows."""
    options = PARSER.parse_args()
    if not options.no_keep_memory:
        keep_memory()  # for both frameworks: they share the process
    flops, bandwidth = limits(options.repeats)
    print(
        f"{device_title()}, T = {options.frames}; limits {flops / 1e9:.0f} GFLOP/s, "
        f"{bandwidth / 1e9:.0f} GB/s"
    )
    table(
        "system", "dtype", "batch", "inference clips/s", "of limit", "training clips/s", "of limit"
    )
    systems = {"jax": time_own}
    systems |= {f"torch {mode}": partial(time_reference, mode=mode) for mode in options.torch}
    for batch in options.batches:
        for dtype in options.dtypes:
            bound = limit(options.frames, dtype, flops, bandwidth)
            for name, system in systems.items():
                inference, training = system(batch, options.frames, dtype, options.repeats)
                shares = f"{inference / bound:.0%}", f"{3 * training / bound:.0%}"
                line(
                    name, dtype, batch, f"{inference:.1f}", shares[0], f"{training:.2f}", shares[1]
                )


def limit(frames: int, dtype: str, flops: float, bandwidth: float) -> float:
    """Clips/s of inference at which either the arithmetic or the memory is fully busy."""
    work = frames * PERSONS
    size = 0.5 if dtype == "bfloat16" else 1
    return 1 / max(work * FLOPS / flops, work * BYTES * size / bandwidth)


def time_own(batch: int, frames: int, dtype: str, repeats: int) -> tuple[float, float]:
    """Clips/s of Shift-GCN here."""
    backbone = ShiftGCN(WIDTH, dtype=jnp.dtype(dtype))
    classifier = Classifier(SkeletonEncoder(backbone), CLASSES)
    return time_jax(classifier, batch, frames, repeats)


def time_reference(
    batch: int, frames: int, dtype: str, repeats: int, mode: str
) -> tuple[float, float]:
    """Clips/s of Shift-GCN in PyTorch."""
    import torch

    from tests.helpers.torch_shift_gcn import TorchShiftGCN

    torch.manual_seed(0)
    network = TorchShiftGCN(CLASSES, WIDTH, JOINTS, PERSONS)
    if mode == "compile":
        network = torch.compile(network)
    return time_torch(network, batch, frames, repeats, dtype)


def time_jax(
    classifier: Classifier, batch: int, frames: int, repeats: int, clock=time.perf_counter
) -> tuple[float, float]:
    """Clips/s of inference and of a training step (SGD with Nesterov momentum)."""
    clips = jax.random.normal(jax.random.key(0), (batch, PERSONS, frames, JOINTS, 3))
    labels = jnp.arange(batch) % CLASSES
    variables = jit(classifier.init)(jax.random.key(1), clips)
    infer = jit(classifier.apply)
    inference = fastest(lambda: infer(variables, clips).block_until_ready(), repeats, clock)
    optimizer = optax.sgd(0.1, 0.9, nesterov=True)

    @partial(jit, donate_argnums=0)
    def step(state):
        def loss_fn(params):
            both = {"params": params, "batch_stats": state.batch_stats}
            logits, new = classifier.apply(both, clips, True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), new["batch_stats"]

        grads, batch_stats = jax.grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return PretrainState(params, batch_stats, opt_state, state.step + 1)

    params = variables["params"]
    state = PretrainState(params, variables["batch_stats"], optimizer.init(params), jnp.zeros(()))

    def train():
        nonlocal state
        state = jax.block_until_ready(step(state))

    return batch / inference, batch / fastest(train, repeats, clock)


def time_torch(
    network, batch: int, frames: int, repeats: int, dtype="float32", clock=time.perf_counter
) -> tuple[float, float]:
    """The same in PyTorch; bfloat16 through autocast, on the GPU if JAX is on one."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    network = network.to(device)
    clips = torch.randn(batch, 3, frames, JOINTS, PERSONS, device=device)
    labels = torch.arange(batch, device=device) % CLASSES
    narrow = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True)

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def infer():
        with torch.inference_mode(), narrow:
            network(clips)
        wait()

    def train():
        optimizer.zero_grad()
        with narrow:
            loss = torch.nn.functional.cross_entropy(network(clips), labels)
        loss.backward()
        optimizer.step()
        wait()

    network.eval()
    inference = fastest(infer, repeats, clock)
    network.train()
    return batch / inference, batch / fastest(train, repeats, clock)


if __name__ == "__main__":
    main()
