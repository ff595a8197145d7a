"""Kinder-Gator (real, 58 classes): three random 46/12 and 53/5 splits, half of the subjects train.

Command: python -m dynapurls_jax.train --config=configs/kinder_gator.py
Data: Kinder-Gator.zip (50 MB); the first run prints where to get it and where to put it.
Time: 2 minutes on two cores.
The paper's model: --config=configs/paper.py:kinder_gator; about 30 minutes on one core.
Result (stream_eval, static): 76.7 % (53/5), 67.8 % (46/12), means of three splits.
"""

from dynapurls_jax.config import small_dataset_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = small_dataset_config("kinder_gator")
    config.splits = (
        *(f"random-53_5-{k}" for k in range(3)),
        *(f"random-46_12-{k}" for k in range(3)),
    )
    config.seeds = (0,)
    # More accurate with many seen classes (docs/studies/method.md).
    config.encoder.name = "temporal_conv"
    config.pretrain.loss = "imagined"
    return config
