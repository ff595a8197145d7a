"""Memory of the process, when JAX computes on the CPU."""

import ctypes

# Parameters of mallopt in glibc's malloc.h, and what they are set to.
_SETTINGS = {
    -8: 1,  # M_ARENA_MAX: one arena, since others cannot grow
    -4: 0,  # M_MMAP_MAX: big blocks too come from it
    -1: -1,  # M_TRIM_THRESHOLD: and what is freed stays in it
}


def keep_memory() -> None:
    """Keeps freed memory for the next allocation instead of giving it back to the system.

    To be called before JAX is imported. XLA allocates the scratch space of a program anew for each
    call, and the system clears each page of it again: a third of the time of a training step. Does
    nothing where the C library is not glibc.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for parameter, value in _SETTINGS.items():
            set_option(parameter, value)
