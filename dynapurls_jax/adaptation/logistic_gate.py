"""The logistic gate of SynSE and its relatives: logistic regression on probabilities of both sides.

The regression of CADA-VAE, ReViSE and JPoSE for skeletons, SynSE (Gupta et al., ICIP 2021) and
SA-DVAE (Li et al., ECCV 2024), as it is meant. What differs from the published code:

- It tunes a threshold on P(unseen) and then applies it to 1 - P(unseen). Here one rule does both:
  a score above the threshold is unseen. The threshold is carried over as a share of held-out seen
  clips, as for every gate (`evaluation.gzsl.gate_of`).
- Its seen probabilities are those of the encoder's own classifier. Here both sides' probabilities
  are the zero-shot method's, so that the gate serves methods and encoders without a classifier.
- It sets clips apart to choose temperature and threshold. Clips are few here: both are chosen by
  the scores of clips held out in turn (`evaluation.logistic_fit`), for the highest H.
- `k`, there the number of unseen classes, is that of the pseudo-unseen ones in the real run too.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynapurls_jax.adaptation.api import Number


def logistic_inputs(
    logits: Float[Array, "B C"], seen: Bool[Array, " C"], temperature: Number, k: int
) -> Float[Array, "B m"]:
    """The `k` highest probabilities of the seen classes, then of the unseen ones: `m = 2 k` inputs.

    Each side's are a softmax over its own classes, in descending order; the temperature is that of
    the seen side. A side of fewer than `k` classes is filled up with zeros, so that the number of
    classes may be any.

    Args:
      logits: minus infinity for inactive classes.
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
    """The highest probabilities; zeros for those of no class."""
    shares = jnp.where(jnp.isfinite(logits), jax.nn.softmax(logits, axis=-1), 0.0)
    shares = jnp.pad(shares, ((0, 0), (0, max(0, k - logits.shape[-1]))))
    return jax.lax.top_k(shares, k)[0]
