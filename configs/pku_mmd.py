"""PKU-MMD phase I with the paper's settings (section 4.1.4): three random 46/5 splits.

Command: python -m dynapurls_jax.train --config=configs/pku_mmd.py
Data: downloaded by hand; the first run prints where, which archives, and where to put them.
Phase II: --config.data.name=pku_mmd_2. The paper maps to 18 joints; --config.data.joints="" keeps
the 25 recorded joints.
Time and result: not measured, the authors of this code do not have the data.
"""

from dynapurls_jax.config import paper_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = paper_config("pku_mmd")
    config.splits = ("r1", "r2", "r3")
    config.data.joints = "openpose_18"
    config.seeds = (0, 1, 2)
    return config
