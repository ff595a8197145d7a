"""Compiled programs that outlive the process: a second start need not compile again."""

import hashlib
import os
import platform
from pathlib import Path

MIN_SECONDS = 0.3  # programs that compile faster are not worth a file


def keep_programs(workdir: Path) -> None:
    """Keeps what JAX compiles in `<workdir>/xla-cache`, or in $JAX_COMPILATION_CACHE_DIR if given.

    To be called before anything is compiled. Programs for a CPU hold its own instructions: each
    kind of processor has a folder, so that a workdir can move to another machine.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", str(workdir / "xla-cache" / _processor()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)


def _processor() -> str:
    """A short name for the kind of processor: what it is, and a hash of what it can do."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    able = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    known = f"{platform.processor()} {able}"
    return f"{platform.machine()}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"
