"""UTD-MHAD (real, 27 classes): three published splits, trained on odd subjects.

Command: python -m dynapurls_jax.train --config=configs/utd_mhad.py
Data: downloaded automatically (15 MB).
Time: 15 seconds on two cores.
The paper's model: --config=configs/paper.py:utd_mhad; 3 seeds, about 35 minutes on one core.
Result (stream_eval, static): 90.0 % (22_5), 61.8 % (18_9), 54.8 % (14_13).
"""

from dynapurls_jax.config import small_dataset_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = small_dataset_config("utd_mhad")
    config.splits = ("22_5", "18_9", "14_13")
    config.seeds = (0, 1, 2)
    config.pretrain.epochs = 75
    return config
