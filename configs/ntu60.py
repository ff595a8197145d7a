"""NTU RGB+D 60 with the paper's settings (section 4.1.4): the two fixed splits.

Command: python -m dynapurls_jax.train --config=configs/ntu60.py
Data: registration needed. This version does not read it yet and says so, with what to download.
Time and result: not measured.
"""

from dynapurls_jax.config import default_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = default_config()
    config.name = "ntu60"
    config.splits = ("55_5", "48_12")
    config.seeds = (0, 1, 2)
    config.data.name = "ntu60"
    config.data.frames = 300
    config.data.fit = "pad"
    config.encoder.width = 64
    config.pretrain.epochs = 140
    config.pretrain.batch_size = 64
    config.alignment.learning_rate = 1e-4
    config.alignment.batch_size = 256
    config.alignment.epochs = 300
    config.alignment.patience = 20
    return config
