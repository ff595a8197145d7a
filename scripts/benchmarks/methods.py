"""Milliseconds of a training step of SA-DVAE, SMIE and ReViSE, against eager PyTorch.

  python scripts/benchmarks/methods.py                                 published batches, and 64
  python scripts/benchmarks/methods.py --methods smie --batches 128
  taskset -c 1 python scripts/benchmarks/methods.py --processor_time   one core, other work beside

A step gathers a batch of random pooled features (width 256, text of width 768), computes the loss
and its gradient, and updates the parameters by AdamW. JAX runs an epoch as one scan, compiled
before; PyTorch runs the same batches in a loop, with the losses of `methods_torch.py` (extra dev),
`torch.optim.AdamW` in its plain form and in its fused one. The two take turns in one process, and
the fastest turn counts. Before, the losses and the norms of the gradients of both are compared at
the same parameters, with the same noise.

`ratio` is PyTorch's milliseconds over those of JAX. `MFLOP` is of the compiled program, forward
and backward, as XLA counts it, and `AdamW MB` the bytes of the update: it reads parameters,
gradient and two moments, and writes three of them, 7 x 4 bytes a parameter.
"""

from reference import need_reference, timing_options

from dynapurls_jax.commands import parser_of

PUBLISHED = {"sa_dvae": 32, "smie": 128, "revise": 1024}  # batches

PARSER = parser_of(__doc__)
PARSER.add_argument("--methods", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
PARSER.add_argument("--batches", type=int, nargs="+", help="default: the published one, and 64")
PARSER.add_argument("--classes", type=int, default=55)
PARSER.add_argument("--steps", type=int, default=50, help="of one epoch, at most 100")
timing_options(PARSER, repeats=5)
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds
    need_reference(PARSER)

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import methods_torch
import numpy as np
import optax
import torch
from timing import device_title, line, table

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.zero_shot.base import Shapes, Variables, ZeroShotMethod, unit
from dynapurls_jax.zero_shot.registry import METHODS

CLIPS, WIDTH, TEXT_WIDTH = 8192, 256, 768
STEP = 3 * 1700 + 1500  # all terms of SA-DVAE are on from here to the end of the cycle
RATE, DECAY, KEY = 1e-4, 0.0, jax.random.key(3)
TORCH = {"sa_dvae": "SaDvae", "smie": "Smie", "revise": "Revise"}


class Setup(NamedTuple):
    """A method with its data: tokens `[N, 1, n]`, labels `[N]`, text `[C, G, d]`."""

    name: str
    settings: Any
    method: ZeroShotMethod
    variables: Variables
    tokens: jax.Array
    labels: jax.Array
    text: jax.Array


def main() -> None:
    """Prints a table as it grows."""
    options = PARSER.parse_args()
    keep_memory()  # for both frameworks: they share the process
    clock = "processor" if options.processor_time else "elapsed"
    print(
        f"{device_title()}, torch {torch.__version__}, {torch.get_num_threads()} threads; n = "
        f"{WIDTH}, d = {TEXT_WIDTH}, {options.classes} classes, epochs of {options.steps} steps; "
        f"milliseconds of {clock} time a step"
    )
    table("method", "batch", "MFLOP", "AdamW MB", "jax", "torch", "ratio", "torch fused", "ratio")
    for name in options.methods:
        setup = make_setup(name, options.classes)
        for batch in options.batches or sorted({64, PUBLISHED[name]}):
            report(setup, batch, options)


def make_setup(name: str, classes: int) -> Setup:
    """A method at its published sizes, and random data."""
    keys = jax.random.split(jax.random.key(0), 4)
    tokens = jax.random.normal(keys[0], (CLIPS, 1, WIDTH))
    labels = jax.random.randint(keys[1], (CLIPS,), 0, classes)
    text = unit(jax.random.normal(keys[2], (classes, 8, TEXT_WIDTH)))
    entry = METHODS.entry(name)
    settings = entry.settings()
    method = entry.make(settings, Shapes(KINECT_V1, (1, 1, WIDTH), TEXT_WIDTH))
    assert method.init is not None
    return Setup(name, settings, method, method.init(keys[3], tokens, text), tokens, labels, text)


def report(setup: Setup, batch: int, options) -> None:
    """Prints the line of a method and a batch."""
    rows = np.random.default_rng(0).integers(CLIPS, size=(options.steps, batch))
    work = checked_flops(setup, rows[0])
    systems = [jax_epoch(setup, rows), torch_epoch(setup, rows), torch_epoch(setup, rows, True)]
    clock = time.process_time if options.processor_time else time.perf_counter
    turns = range(1 + options.repeats)
    times = np.array([[timed(run, clock) for run in systems] for _ in turns])
    own, plain, fused = 1e3 * times[1:].min(axis=0) / options.steps
    count = sum(leaf.size for leaf in jax.tree.leaves(setup.variables["params"]))
    line(
        *(setup.name, batch, f"{work / 1e6:.0f}", f"{7 * 4 * count / 1e6:.0f}", f"{own:.2f}"),
        *(f"{plain:.2f}", f"{plain / own:.1f}", f"{fused:.2f}", f"{fused / own:.1f}"),
    )


def timed(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Seconds of one call by `clock`."""
    start = clock()
    run()
    return clock() - start


def value_and_grad(setup: Setup, params, text, rows, key, step):
    """The loss of a batch and its gradient."""
    assert setup.method.loss is not None
    batch = setup.tokens[rows], setup.labels[rows]

    def loss(params):
        return setup.method.loss({**setup.variables, "params": params}, batch, text, key, step)

    return jax.value_and_grad(loss)(params)


def jax_epoch(setup: Setup, rows: np.ndarray) -> Callable[[], Any]:
    """The epoch as one program, which goes on from the state that the call before left."""
    optimizer = optax.adamw(RATE, weight_decay=DECAY)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, tokens, labels, text, rows):
        data = setup._replace(tokens=tokens, labels=labels)

        def step(state, numbered):
            (params, moments), (number, rows) = state, numbered
            key = jax.random.fold_in(KEY, number)
            loss, grads = value_and_grad(data, params, text, rows, key, STEP + number)
            updates, moments = optimizer.update(grads, moments, params)
            return (optax.apply_updates(params, updates), moments), loss

        return jax.lax.scan(step, state, (jnp.arange(len(rows)), rows))

    params = jax.tree.map(jnp.copy, setup.variables["params"])
    state, rows = (params, optimizer.init(params)), jnp.asarray(rows)

    def run():
        nonlocal state
        state, losses = epoch(state, setup.tokens, setup.labels, setup.text, rows)
        return jax.block_until_ready(losses)

    return run


def torch_model(setup: Setup) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The module with the same parameters, standardised clips `[N, n]`, labels `[N]`."""
    known = setup.variables["features"]
    clips = (setup.tokens[:, 0] - known["mean"]) / known["std"]
    make = getattr(methods_torch, TORCH[setup.name])
    text = torch.tensor(np.array(setup.text[:, 0]))
    model = make(setup.settings, setup.variables["params"], text)
    return model, torch.tensor(np.array(clips)), torch.tensor(np.array(setup.labels)).long()


def torch_epoch(setup: Setup, rows: np.ndarray, fused: bool | None = None) -> Callable[[], Any]:
    """The same as a loop of eager PyTorch."""
    model, clips, labels = torch_model(setup)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY, fused=fused)
    batches = torch.tensor(rows)

    def run():
        for number, chosen in enumerate(batches):
            optimizer.zero_grad()
            model(clips[chosen], labels[chosen], STEP + number).backward()
            optimizer.step()

    return run


def checked_flops(setup: Setup, rows: np.ndarray) -> float:
    """FLOPs of a batch; both frameworks compute the same loss, and gradients of the same norm."""
    step = STEP + 100
    arguments = (setup.variables["params"], setup.text, rows, KEY, jnp.int32(step))
    program = jax.jit(partial(value_and_grad, setup)).lower(*arguments).compile()
    loss, grads = program(*arguments)
    model, clips, labels = torch_model(setup)
    if isinstance(model, methods_torch.SaDvae):
        noise, orders = draws(setup.settings, len(rows))
        model.noise, model.order = lambda mean: next(noise), lambda count: next(orders)
    expected = model(clips[rows], labels[rows], step)
    expected.backward()
    norm = torch.nn.utils.get_total_norm([each.grad for each in model.parameters()])
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-4)
    np.testing.assert_allclose(optax.tree.norm(grads), norm.item(), rtol=1e-3)
    return program.cost_analysis()["flops"]


def draws(settings, count: int) -> tuple[Iterator[torch.Tensor], Iterator[torch.Tensor]]:
    """The noise and the permutations that SA-DVAE draws from `KEY`, in its order."""
    first, second = jax.random.split(KEY)
    widths = settings.semantic + settings.style, settings.semantic
    keys = [jax.random.fold_in(first, number) for number in range(len(widths))]
    noise = [jax.random.normal(key, (count, w)) for key, w in zip(keys, widths, strict=True)]
    orders = [jax.random.permutation(key, count) for key in jax.random.split(second)]
    noise, orders = ([torch.tensor(np.array(each)) for each in drawn] for drawn in (noise, orders))
    return iter(noise), iter(orders)


if __name__ == "__main__":
    main()
