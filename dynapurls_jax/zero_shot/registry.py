"""Zero-shot methods by name. A new one: its file beside this one, and a line here."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from dynapurls_jax.registry import Registry

if TYPE_CHECKING:
    from dynapurls_jax.zero_shot.base import Shapes, ZeroShotMethod

METHODS = Registry(
    "method",
    {
        "purls": "dynapurls_jax.zero_shot.purls",
        "ridge": "dynapurls_jax.zero_shot.ridge",
        "sketch": "dynapurls_jax.zero_shot.sketch",
        "devise": "dynapurls_jax.zero_shot.devise",
        "revise": "dynapurls_jax.zero_shot.revise",
        "jpose": "dynapurls_jax.zero_shot.jpose",
        "cada_vae": "dynapurls_jax.zero_shot.cada_vae",
        "synse": "dynapurls_jax.zero_shot.synse",
        "sa_dvae": "dynapurls_jax.zero_shot.sa_dvae",
        "smie": "dynapurls_jax.zero_shot.smie",
        "star": "dynapurls_jax.zero_shot.star",
        "neuron": "dynapurls_jax.zero_shot.neuron",
        "eszsl": "dynapurls_jax.zero_shot.ridge:ESZSL",
        "tdsm": "dynapurls_jax.zero_shot.tdsm",
        "scople": "dynapurls_jax.zero_shot.scople",
        "purls_published": "dynapurls_jax.zero_shot.purls_published",
        "lexicon": "dynapurls_jax.zero_shot.lexicon",
    },
)


def make_method(section: ConfigDict, shapes: "Shapes") -> "ZeroShotMethod":
    """The method that `config.method` names; the same object for the same settings and shapes.

    Programs are compiled once for each object.

    Raises:
      ValueError: unknown name, or settings that cannot be used.
    """
    return _make(section.name, METHODS.settings(section), shapes)


@lru_cache
def _make(name: str, settings: Any, shapes: "Shapes") -> "ZeroShotMethod":
    return METHODS.entry(name).make(settings, shapes)
