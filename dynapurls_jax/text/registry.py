"""The text encoders by name.

The `ENTRY` of each module makes a `TextEncoder` from `TextSettings`, which all of them share.
"""

from dynapurls_jax.registry import Registry

TEXT_ENCODERS = Registry(
    "text encoder",
    {
        "clip": "dynapurls_jax.text.clip",
        "minilm": "dynapurls_jax.text.minilm",
        "hashing": "dynapurls_jax.text.hashing",
        "precomputed": "dynapurls_jax.text.precomputed",
        "action_names": "dynapurls_jax.text.action_names",
    },
)
