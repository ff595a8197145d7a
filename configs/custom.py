"""Your own data: a folder with clip archives, or with clips and a dataset.yaml (docs/data.md).

Command: python -m dynapurls_jax.train --config=configs/custom.py \\
  --config.data.manual_dir=my/folder \\
  --config.splits="('4_2',)"
Without descriptions of your classes: --config.text.descriptions=names.
Model: kinematic statistics, and motion sketches if the descriptions have them (docs/text.md).
"""

from dynapurls_jax.config import small_dataset_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = small_dataset_config("custom")
    config.splits = ("",)
    return config
