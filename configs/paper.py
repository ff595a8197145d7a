"""The model of the paper, Shift-GCN and PURLS, on any dataset.

Command: python -m dynapurls_jax.train --config=configs/paper.py:utd_mhad
The name after the colon is a configuration of this folder, with its data, splits and seeds.
Time: 10 to 35 minutes on one core for a small dataset; see the dataset's configuration.
Result: docs/results.md.
"""

from pathlib import Path

from dynapurls_jax.config import choose_paper_model, load_config
from dynapurls_jax.config_names import dataset_names


def get_config(name: str = "utd_mhad"):
    """The experiment; see dynapurls_jax/config.py for every key.

    Raises:
      ValueError: there is no configuration of that name.
    """
    if name not in dataset_names():
        raise ValueError(f"configs/paper.py:{name}: expected one of {', '.join(dataset_names())}")
    config = load_config(Path(__file__).with_name(f"{name}.py"))
    choose_paper_model(config)
    return config
