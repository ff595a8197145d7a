"""The universal model: recognises any named action, from the class means of many corpora.

Command: python scripts/train_universal.py --archives=FOLDER --manual_dir=FOLDER --out=FILE
Data: clip archives, and the owners' archives of the small datasets; see docs/universal.md.
Time: 1 minute on one core; with --leave_out 4 minutes more.
Result (left-out corpora, mean): 57.8 % for single clips, 63.4 % for all clips together.
"""

from dynapurls_jax.config import default_config
from dynapurls_jax.text.granularities import GRANULARITIES


def get_config():
    """The experiment; see dynapurls_jax/config.py for every key."""
    config = default_config()
    config.name = "universal"
    config.data.name = "custom"
    config.data.frames = 32
    config.data.temporal_sampling = "upright"
    config.encoder.name = "posture"
    config.method.name = "lexicon"
    config.text.encoder = "action_names"
    config.text.descriptions = "names"
    config.text.template = dict.fromkeys(GRANULARITIES, "{}")  # the encoder adds its own template
    config.adapter.name = "recentred"
    return config
