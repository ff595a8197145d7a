"""What the TPU's and the GPU's compilers make of the main programs, held to limits.

The environment variables AOT_V5E and AOT_H100 name a Python with `jax[tpu]` or `jax[cuda12]`; by
default it is this one. Nothing is run on a device.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "benchmarks" / "aot.py"
STREAM = "stream of {}, label_free, C = 12, chunk 1"
# The most of each figure; docs/studies/speed.md says what was before.
LIMITS = {
    "v5e": {
        "encoder inference, float32, T = 64, 128 persons": {
            "moved_bytes": 7.0e9,
            "large_gathers_scatters": 0,
        },
        "encoder inference, bfloat16, T = 64, 128 persons": {
            "moved_bytes": 4.2e9,
            "large_gathers_scatters": 0,
        },
        "training step, float32, T = 64, 128 persons": {"moved_bytes": 29e9},
        "training step, bfloat16, T = 300, 64 persons": {"scratch_bytes": 4e9},
        STREAM.format("static"): {"loop_kernels": 10},
        STREAM.format("dynapurls"): {"loop_kernels": 40},
        STREAM.format("balanced"): {"loop_kernels": 40},
    },
    "h100": {
        "encoder inference, float32, T = 64, 128 persons": {"moved_bytes": 10.1e9, "kernels": 165},
        "training step, float32, T = 64, 128 persons": {"moved_bytes": 43e9},
        STREAM.format("static"): {"loop_kernels": 10},
        STREAM.format("dynapurls"): {"loop_kernels": 55},
        STREAM.format("balanced"): {"loop_kernels": 40},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("target", LIMITS)
def test_programs_stay_within_their_limits(target, tmp_path):
    python = os.environ.get(f"AOT_{target.upper()}", sys.executable)
    call = [sys.executable, str(SCRIPT), "--target", target, "--python", python]
    out = tmp_path / "figures.json"
    call += ["--json", str(out), "--only", *LIMITS[target]]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    if "has no compiler" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-3000:]
    programs = json.loads(out.read_text())["programs"]
    above = [
        f"{name}: {figure} {programs[name][figure]:.4g}, at most {most:.4g}"
        for name, limits in LIMITS[target].items()
        for figure, most in limits.items()
        if programs[name][figure] > most
    ]
    memory = 12 * 16 * 75 * 150 * 4  # bytes of the smaller part of a stream's memory
    above += [
        f"{name}: the loop copies {max(found['loop_copies'])} bytes"
        for name, found in programs.items()
        if max(found["loop_copies"], default=0) >= memory
    ]
    assert not above, "\n".join(above)


def test_a_missing_compiler_is_named():
    call = [sys.executable, str(SCRIPT), "--target", "v5e", "--python", "/bin/false"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install -e '.[tpu]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
