"""The logistic gate of SynSE and related methods: logistic regression on probabilities.

It is the regression of CADA-VAE, ReViSE and JPoSE for skeletons, SynSE (Gupta et al., ICIP 2021)
and SA-DVAE (Li et al., ECCV 2024). Differences from the published code:

- The published code tunes a threshold on P(unseen) and then applies it to 1 - P(unseen). Here the
  rule is the same for both: a score above the threshold is unseen. The threshold is transferred as
  a fraction of held-out seen clips, as for every gate (`evaluation.gzsl.gate_of`).
- The published seen probabilities are those of the encoder's classifier. Here the probabilities of
  both sides are those of the zero-shot method, so that no classifier is needed.
- The published code chooses temperature and threshold on a held-out set. Clips are few here: both
  maximise H by cross-validation (`evaluation.logistic_fit`).
- The published `k` is the number of unseen classes. Here it is the number of pseudo-unseen classes,
  for the unseen classes too.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynapurls_jax.adaptation.api import Number


def logistic_inputs(
    logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature: Number, k: int
) -> Float[Array, "B m"]:
    """The `k` highest probabilities of the seen classes, then of the unseen ones: `m = 2 k` inputs.

    The probabilities of each side are a softmax over its own classes, in descending order. A side
    of fewer than `k` classes is padded with zeros.

    Args:
      logits: minus infinity for inactive classes.
      temperature: of the seen side.
    """
    seen_side = jnp.where(seen, logits / temperature, -jnp.inf)
    unseen_side = jnp.where(seen, -jnp.inf, logits)
    return jnp.concatenate([_highest(side, k) for side in (seen_side, unseen_side)], axis=-1)


def logistic(
    logits: Float[Array, "B C"],
    seen: Bool[Array, " C"],
    temperature: Number,
    weights: tuple[float, ...],
) -> Float[Array, " B"]:
    """The log-odds of unseen, `ln P(unseen) / P(seen)`.

    Args:
      weights: of the `2 k` inputs, then the bias; see `evaluation.logistic_fit.fit_weights`.

    Raises:
      ValueError: there are no weights.
    """
    if not weights:
        raise ValueError("gate 'logistic': expected the weights of a fit (fit_gate), got none")
    factors, bias = jnp.asarray(weights[:-1]), weights[-1]
    inputs = logistic_inputs(logits, seen, temperature, len(weights) // 2)
    return (factors * inputs).sum(axis=-1) + bias


def _highest(logits: Float[Array, "B C"], k: int) -> Float[Array, "B k"]:
    """The `k` highest probabilities; zero after the last class."""
    shares = jnp.where(jnp.isfinite(logits), jax.nn.softmax(logits, axis=-1), 0.0)
    shares = jnp.pad(shares, ((0, 0), (0, max(0, k - logits.shape[-1]))))
    return jax.lax.top_k(shares, k)[0]
