"""A zero-shot method of Table 3, with its settings there and the kind of text that its authors use.

Command: python -m dynapurls_jax.train --config=configs/authors_text.py:sa_dvae,utd_mhad
The names after the colon are a method and a configuration of this folder. devise, revise, cada_vae
and sa_dvae have class names; the others have sentences, or verbs and nouns, as in Table 3.
Time: a minute for a split of a small dataset.
Result: docs/studies/zero_shot_methods.md, table "Texts of the zero-shot methods".
"""

from pathlib import Path

from dynapurls_jax.config import load_config
from dynapurls_jax.config_names import dataset_names
from dynapurls_jax.reproduction.methods import AUTHORS_TEXT, TRAINED, settings_of


def get_config(names: str = "sa_dvae,utd_mhad"):
    """The experiment; see dynapurls_jax/config.py for every key.

    Raises:
      ValueError: the names are not those of a method and a configuration.
    """
    method, _, dataset = names.partition(",")
    for name, expected in ((method, TRAINED), (dataset, dataset_names())):
        if name not in expected:
            raise ValueError(
                f"configs/authors_text.py:{names}: expected METHOD,DATASET; {name!r} is none of "
                f"{', '.join(expected)}"
            )
    config = load_config(Path(__file__).with_name(f"{dataset}.py"))
    config.update_from_flattened_dict(settings_of(method) | AUTHORS_TEXT.get(method, {}))
    return config
