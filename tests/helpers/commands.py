"""Arguments of the commands for a run that takes seconds."""

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
