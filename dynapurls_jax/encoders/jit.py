"""How functions that run an encoder are compiled, and for which platform."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

# XLA for CPU drops optimization barriers before it fuses, and then repeats shifts in each of their
# readers: without this pass it keeps them. Where the pass has another name, it is only slower.
_CPU = {"xla_disable_hlo_passes": "cse_barrier_expander"}
_LARGE = ("v5 lite", "v5e", "v6")  # of the kinds of TPU
_target: list[str] = []


def platform() -> str:
    """Where encoders will run: "cpu", "gpu" or "tpu"."""
    return _target[-1] if _target else jax.default_backend()


def runs_kernels() -> bool:
    """Whether this is a TPU with the 128 MB of fast memory that the project's kernels need.

    The kernels were compiled and interpreted, and have never run on a device:
    DYNAPURLS_TPU_KERNELS=0 in the environment switches them off.
    """
    if platform() != "tpu" or os.environ.get("DYNAPURLS_TPU_KERNELS") == "0":
        return False
    return bool(_target) or any(kind in jax.devices()[0].device_kind for kind in _LARGE)


@contextmanager
def compiling_for(name: str) -> Iterator[None]:
    """Within it encoders are traced for another platform than this process runs on."""
    _target.append(name)
    try:
        yield
    finally:
        _target.pop()


def jit(function: Callable, **options) -> Callable:
    """`jax.jit` with the same options, and with what encoders need to be fast on this platform."""
    return jax.jit(function, compiler_options=_CPU if platform() == "cpu" else None, **options)
