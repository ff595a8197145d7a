"""Your own data: a folder with clip archives, or with clips and a dataset.yaml (docs/data.md).

Command: python -m dynapurls_jax.train --config=configs/custom.py \\
  --config.data.manual_dir=my/folder \\
  --config.splits=4_2
A split of a dataset.yaml, or random-<seen>_<unseen>-<k> without one.
Without descriptions of your classes: --config.text.descriptions=names.
Left and right joints are the person's own. Files of a dataset.yaml have right-handed coordinates,
such as x right, y up, z towards the viewer; archives may have either hand (docs/data.md).
Model: kinematic statistics, and motion sketches if the descriptions have them (docs/text.md).
"""

from dynapurls_jax.config import small_dataset_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = small_dataset_config("custom")
    config.splits = ("",)
    return config
