"""Timers, the limits of a device, and Markdown tables: what the benchmarks share."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def fastest(
    call: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of the fastest of some calls by `clock`, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)


def fastest_jax(repeats: int, function: Callable, *arguments, **keywords) -> float:
    """Seconds of the fastest call of a JAX function."""
    return fastest(lambda: jax.block_until_ready(function(*arguments, **keywords)), repeats)


def limits(repeats: int) -> tuple[float, float]:
    """FLOP/s of a large float32 product, bytes/s of a map over 8 MB, as the encoder's maps are."""
    square, flat = jnp.ones((2048, 2048)), jnp.ones(2_000_000)
    product_s = fastest_jax(3 * repeats, jax.jit(lambda a: a @ a), square)
    map_s = fastest_jax(10 * repeats, jax.jit(lambda a: a + 1), flat)
    return 2 * 2048**3 / product_s, 2 * flat.nbytes / map_s


def device_title() -> str:
    """The device and the version of JAX."""
    device = jax.devices()[0]
    return f"{device.device_kind} ({device.platform}), jax {jax.__version__}"


def table(*columns: str) -> None:
    """Prints the head of a Markdown table."""
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)


def line(*cells: object) -> None:
    """Prints a line of it."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
