"""Random keys: one root for each training seed, and a key for each purpose and step."""

import jax
from jaxtyping import Array, Key

# TODO-RNG: these reproduce the keys of 0.1 bit by bit; they become named purposes with the fixes.


def key_of(seed: int, purpose: str, *steps: int | Array) -> Key[Array, ""]:
    """The key of a purpose.

    Args:
      seed: of the training run.
      purpose: "encoder_init", "pretraining", "method_init", "fit" or "stream".
      steps: folded in, one after the other.
    """
    key = jax.random.key(seed)
    if purpose in ("pretraining", "fit"):
        key = jax.random.fold_in(key, {"pretraining": 1, "fit": 2}[purpose])
    for step in steps:
        key = jax.random.fold_in(key, step)
    return key
