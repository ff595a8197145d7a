"""Runs the project's commands in subprocesses; arguments for runs of seconds."""

import os
import subprocess
import sys

from tests.conftest import ROOT

DEMO = f"--config={ROOT}/configs/demo.py"
TINY = [
    "--config.data.frames=8",
    "--config.encoder.shift_gcn.width=4",
    "--config.encoder.shift_gcn.layers=((1,2),(2,2))",
    "--config.pretrain.epochs=1",
    "--config.pretrain.batch_size=64",
    "--config.fit.epochs=2",
    "--config.method.purls.hidden=16",
    "--config.method.purls.attention=8",
]
# An encoder without parameters and a closed-form method: nothing is trained.
CLOSED_FORM = ["--config.encoder.name=kinematics", "--config.method.name=ridge"]


def run(*arguments, cwd, **environment):
    """Runs `python -m <arguments>`; returns the completed process with its output as text."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
