"""The embedded default: SYNTHETIC clips, nothing to download, minutes on two cores.

Command: python -m dynapurls_jax.train --config=configs/demo.py
Time: 3 minutes on two cores, installation aside.
Result (stream_eval, static): 38.8 % of 8 unseen classes, chance 12.5 %; one seed, SYNTHETIC.
"""

from dynapurls_jax.config import default_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = default_config()
    config.name = "demo"
    config.splits = ("random-40_8-0",)
    config.data.name = "demo"
    config.data.frames = 32
    config.encoder.shift_gcn.width = 16
    config.pretrain.epochs = 20
    config.pretrain.batch_size = 16
    config.text.encoder = "hashing"
    config.method.purls.attention = 64
    config.method.purls.hidden = 256
    config.fit.learning_rate = 1e-3
    config.fit.batch_size = 64
    config.fit.epochs = 150
    config.fit.patience = 25
    return config
