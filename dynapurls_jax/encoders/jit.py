"""How functions that run an encoder are compiled."""

from collections.abc import Callable

import jax

# XLA for CPU drops optimization barriers before it fuses, and then repeats shifts in each of their
# readers: without this pass it keeps them. Where the pass has another name, it is only slower.
_CPU = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def jit(function: Callable, **options) -> Callable:
    """`jax.jit` with the same options, and with what encoders need to be fast on this platform."""
    return jax.jit(
        function, compiler_options=_CPU if jax.default_backend() == "cpu" else None, **options
    )
