"""NTU RGB+D 60 with the paper's settings (section 4.1.4): two fixed splits, cross-subject.

Command: python -m dynapurls_jax.train --config=configs/ntu60.py
Data: registration needed; the first run prints where, which zip (5.8 GB), and where to put it.
Other splits of the literature: --config.splits=r1,r2,r3 (Table 4), 40_20, 30_30; the
cross-view protocol: --config.data.protocol=xview.
Time and result: not measured, the authors of this code do not have the data.
"""

from dynapurls_jax.config import paper_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = paper_config("ntu60")
    config.splits = ("55_5", "48_12")
    config.seeds = (0, 1, 2)
    return config
