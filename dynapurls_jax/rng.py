"""Random keys: one root for each training seed, one branch for each purpose, one key for each step.

No two purposes share a key, whatever their steps are.
"""

import jax
from jaxtyping import Array, Key

PURPOSES = ("encoder_init", "pretraining", "method_init", "fit", "stream")


def key_of(seed: int, purpose: str, *steps: int | Array) -> Key[Array, ""]:
    """The key of a purpose, or of one of its steps.

    Args:
      seed: of the training run.
      purpose: one of `PURPOSES`: initial parameters of the encoder and of the method, training of
        either, and test-time methods along a stream.
      steps: folded in, one after the other.

    Raises:
      ValueError: no such purpose.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose: expected one of {', '.join(PURPOSES)}, got {purpose!r}")
    key = jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
    for step in steps:
        key = jax.random.fold_in(key, step)
    return key
