"""UTD-MHAD (real, 27 classes): three published splits x 3 seeds, trained on odd subjects.

Command: python -m dynapurls_jax.train --config=configs/utd_mhad.py
Data: downloads itself (14 MB).
Time: about 25 minutes on one core, 9 runs; scripts/results.py uses all cores.
Result (stream_eval, static): 28.3 ± 4.7 % (22_5), 40.0 ± 1.1 % (18_9), 18.1 ± 3.9 % (14_13).
"""

from dynapurls_jax.config import default_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = default_config()
    config.name = "utd_mhad"
    config.splits = ("22_5", "18_9", "14_13")
    config.seeds = (0, 1, 2)
    config.data.name = "utd_mhad"
    config.data.frames = 32
    config.encoder.width = 32
    config.pretrain.epochs = 25
    config.pretrain.batch_size = 16
    config.alignment.learning_rate = 1e-3
    config.alignment.batch_size = 64
    config.alignment.epochs = 150
    config.alignment.patience = 25
    return config
