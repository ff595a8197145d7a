"""Memory that is kept: only a process of its own can show it."""

import ctypes
import subprocess
import sys

import pytest

RESIDENT = """
import numpy as np
from pathlib import Path
from dynapurls_jax.host_memory import keep_memory

def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1]) / 1e6

if {keep}:
    keep_memory()
before = resident()
block = np.ones(30_000_000)
del block
print(resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc's malloc")
def test_freed_memory_stays_with_the_process():
    kept, given_back = (
        float(subprocess.check_output([sys.executable, "-c", RESIDENT.format(keep=keep)]))
        for keep in (True, False)
    )
    assert kept > 200  # MB, of 240
    assert given_back < 40
