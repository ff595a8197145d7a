"""Compilation of functions that run an encoder, and the platform that they are compiled for."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

# XLA's CPU compiler removes optimization barriers before fusion and then recomputes shifts in each
# consumer. Without this pass it keeps the barriers. If XLA renames the pass, encoders are slower.
# The older emitters of fused loops make training 1.04 to 1.35 times as fast.
_CPU = {"xla_disable_hlo_passes": "cse_barrier_expander", "xla_cpu_use_fusion_emitters": False}
_LARGE = ("v5 lite", "v5e", "v6")  # kinds of TPU with 128 MB of fast memory
_target: list[str] = []


def platform() -> str:
    """The platform that encoders are compiled for: "cpu", "gpu" or "tpu"."""
    return _target[-1] if _target else jax.default_backend()


def runs_kernels() -> bool:
    """Whether this is a TPU with the 128 MB of fast memory that the project's kernels need.

    The kernels are tested in interpret mode and by compilation, but have never run on a device.
    The environment variable DYNAPURLS_TPU_KERNELS=0 disables them.
    """
    if platform() != "tpu" or os.environ.get("DYNAPURLS_TPU_KERNELS") == "0":
        return False
    return bool(_target) or any(kind in jax.devices()[0].device_kind for kind in _LARGE)


@contextmanager
def compiling_for(name: str) -> Iterator[None]:
    """A context in which encoders are traced for the platform `name`, not for the current one."""
    _target.append(name)
    try:
        yield
    finally:
        _target.pop()


def stored(x: jax.Array) -> jax.Array:
    """The same array. On a CPU it is stored: XLA computes it again in each fusion that reads it.

    The compilers of accelerators need no help.
    """
    return jax.lax.optimization_barrier(x) if platform() == "cpu" else x


def jit(function: Callable, **options) -> Callable:
    """`jax.jit` with `options` and with the compiler options that make encoders fast."""
    return jax.jit(function, compiler_options=_CPU if platform() == "cpu" else None, **options)
