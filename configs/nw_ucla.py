"""Northwestern-UCLA (real, 10 classes): two published splits, trained on views 1 and 2.

Command: python -m dynapurls_jax.train --config=configs/nw_ucla.py
Data: all_sqe.zip (14 MB); the first run prints where to get it and where to put it.
Time: 10 seconds on two cores.
The paper's model: --config=configs/paper.py:nw_ucla; 3 seeds, about 30 minutes on one core.
Result (stream_eval, static): 81.2 % (8_2), 88.1 % (5_5).
"""

from dynapurls_jax.config import small_dataset_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = small_dataset_config("nw_ucla")
    config.splits = ("8_2", "5_5")
    config.seeds = (0, 1, 2)
    config.pretrain.epochs = 20
    return config
