"""UTD-MHAD (real, 27 classes): three published splits x 3 seeds, trained on odd subjects.

Command: python -m dynapurls_jax.train --config=configs/utd_mhad.py
Data: downloads itself (14 MB).
Time: about 35 minutes on one core (estimate), 9 runs.
Result (stream_eval, static): 28.7 ± 6.2 % (22_5), 38.7 ± 1.6 % (18_9), 25.0 ± 1.7 % (14_13).
"""

from dynapurls_jax.config import small_dataset_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = small_dataset_config("utd_mhad")
    config.splits = ("22_5", "18_9", "14_13")
    config.seeds = (0, 1, 2)
    config.pretrain.epochs = 75
    return config
