"""NTU RGB+D 120 with the paper's settings (section 4.1.4): two fixed splits, cross-subject.

Command: python -m dynapurls_jax.train --config=configs/ntu120.py
Data: registration needed; the first run prints where, which two zips, and where to put them.
Other splits of the literature: --config.splits=r1,r2,r3 (Table 4), 80_40, 60_60; the
cross-setup protocol: --config.data.protocol=xsetup.
Time and result: not measured, the authors of this code do not have the data.
"""

from dynapurls_jax.config import paper_config


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = paper_config("ntu120")
    config.splits = ("110_10", "96_24")
    config.seeds = (0, 1, 2)
    return config
