"""The model of the paper, Shift-GCN and PURLS, on any dataset.

Command: python -m dynapurls_jax.train --config=configs/paper.py:utd_mhad
The name after the colon is a configuration of this folder, with its data, splits and seeds.
Time: 10 to 35 minutes on one core for a small dataset; see the dataset's configuration.
Result: docs/results.md.
"""

from pathlib import Path

from dynapurls_jax.config import NO_DATASETS, choose_paper_model, load_config


def get_config(name: str = "utd_mhad"):
    """The experiment; see dynapurls_jax/config.py for every key.

    Raises:
      ValueError: there is no configuration of that name.
    """
    folder = Path(__file__).parent
    names = sorted(file.stem for file in folder.glob("*.py") if file.stem not in NO_DATASETS)
    if name not in names:
        raise ValueError(f"configs/paper.py:{name}: expected one of {', '.join(names)}")
    config = load_config(folder / f"{name}.py")
    choose_paper_model(config)
    return config
