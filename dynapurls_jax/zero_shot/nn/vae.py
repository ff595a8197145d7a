"""The common parts of CADA-VAE, SynSE and SA-DVAE: linear Gaussian encoders, annealing, classifier.

Cycles of training: within a cycle of `N` steps the weight of the Kullback-Leibler terms rises and
the crossed reconstruction is switched on late; the next cycle starts with both at 0 and keeps the
parameters. The fractions of `N` are those of the published 1700 steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dynapurls_jax.registry import check_choice
from dynapurls_jax.zero_shot.base import Candidates, Variables
from dynapurls_jax.zero_shot.nn.mlp import dense, init_dense

CLASSIFIERS = ("gaussian", "softmax")
XAVIER = jax.nn.initializers.variance_scaling(0.25, "fan_avg", "uniform")  # gain 0.5
RATE = 0.1 * 1700 / 3000  # of the weight of a term, over a whole cycle
FIRST, LATE = 1000 / 1700, 1400 / 1700  # where terms start, as parts of a cycle
LARGEST = 10.0  # log variance
SAMPLES, STEPS, LEARNING_RATE = 500, 300, 1e-3  # of the softmax classifier


class Latent(NamedTuple):
    """A diagonal Gaussian."""

    mean: Float[Array, "*B L"]
    log_variance: Float[Array, "*B L"]

    def part(self, start: int, stop: int | None = None) -> "Latent":
        """Some of the dimensions."""
        return Latent(self.mean[..., start:stop], self.log_variance[..., start:stop])

    def at(self, rows: Int[Array, " b"]) -> "Latent":
        """Some of the rows."""
        return Latent(self.mean[rows], self.log_variance[rows])


class Weights(NamedTuple):
    """The weights of the terms at a step."""

    first: Float[Array, ""]  # of terms from `FIRST` of the cycle
    late: Float[Array, ""]  # of terms from `LATE`
    crossed: Float[Array, ""]  # of the crossed reconstruction, 0 or 1
    cycle: Int[Array, ""]  # number of the cycle


def weights_at(step: Int[Array, ""], cycle: int) -> Weights:
    """The weights at a step, in cycles of `cycle` steps."""
    place = (step % cycle) / cycle
    return Weights(
        first=RATE * jnp.maximum(0.0, place - FIRST),
        late=RATE * jnp.maximum(0.0, place - LATE),
        crossed=(place > LATE).astype(jnp.float32),
        cycle=step // cycle,
    )


def check_classifier(classifier: str) -> None:
    """Refuses an unknown name.

    Raises:
      ValueError: says which names are known.
    """
    check_choice("classifier", classifier, CLASSIFIERS)


def init_autoencoder(key: PRNGKeyArray, width: int, latent: int) -> Variables:
    """Linear maps from `[n]` to mean and log variance `[L]`, and back."""
    keys = jax.random.split(key, 3)
    return {
        "mean": init_dense(keys[0], width, latent, XAVIER),
        "log_variance": init_dense(keys[1], width, latent, XAVIER),
        "decoder": init_dense(keys[2], latent, width, XAVIER),
    }


def encoded(params: Variables, x: Float[Array, "*B n"]) -> Latent:
    """The Gaussian of each row.

    The log variance is limited, unlike published: it is linear in `x`, and the variance of an
    outlier would overflow.
    """
    log_variance = jnp.minimum(dense(params["log_variance"], x), LARGEST)
    return Latent(dense(params["mean"], x), log_variance)


def decoded(params: Variables, z: Float[Array, "*B L"]) -> Float[Array, "*B n"]:
    """The reconstruction of a latent vector."""
    return dense(params["decoder"], z)


def sampled(key: PRNGKeyArray, latent: Latent) -> Float[Array, "*B L"]:
    """One draw of each row's Gaussian."""
    noise = jax.random.normal(key, latent.mean.shape)
    return latent.mean + jnp.exp(0.5 * latent.log_variance) * noise


def divergence(latent: Latent) -> Float[Array, ""]:
    """Kullback-Leibler divergence from the standard normal, the mean over rows."""
    mean, log_variance = latent
    each = jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance
    return 0.5 * each.sum(axis=-1).mean()


def squared_error(found: Float[Array, "*B n"], target: Float[Array, "*B n"]) -> Float[Array, ""]:
    """The mean over all numbers."""
    return jnp.mean(jnp.square(found - target))


def classes_of(latent: Latent, classifier: str) -> Candidates:
    """The classifier of some classes from the Gaussians of their text; no clip is needed.

    "gaussian": the Gaussians themselves `[C, 2, L]`, for Bayes' rule. "softmax", the published one:
    kernel and bias `[C, 1, L + 1]` of a layer with ReLU, which is trained on 500 draws of each
    class.
    """
    if classifier == "gaussian":
        return Candidates(jnp.stack(latent, axis=1))
    return Candidates(_softmax_classifier(latent)[:, None])


def class_scores(
    mean: Float[Array, "B L"], candidates: Candidates, classifier: str
) -> Float[Array, "B C"]:
    """Logits of clips by the means of their latent Gaussians."""
    if classifier == "softmax":
        layer = candidates.classes[:, 0]
        return jax.nn.relu(mean @ layer[:, :-1].T + layer[:, -1])
    centre, log_variance = candidates.classes[:, 0], candidates.classes[:, 1]
    precision = jnp.exp(-log_variance)
    squares = (
        jnp.square(mean) @ precision.T
        - 2 * mean @ (centre * precision).T
        + jnp.sum(jnp.square(centre) * precision, axis=-1)
    )
    return -0.5 * (squares + log_variance.sum(axis=-1))


def _softmax_classifier(latent: Latent) -> Float[Array, "C e"]:
    """Full-batch Adam on cross-entropy, from a fixed key: the same classes give the same layer."""
    count, width = latent.mean.shape
    key = jax.random.key(0)
    spread = Latent(*(jnp.repeat(array, SAMPLES, axis=0) for array in latent))
    draws, labels = sampled(key, spread), jnp.repeat(jnp.arange(count), SAMPLES)
    optimizer = optax.adam(LEARNING_RATE)
    params: Any = init_dense(key, width, count, XAVIER)

    def loss(params):
        logits = jax.nn.relu(dense(params, draws))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, STEPS)
    return jnp.concatenate([params["kernel"].T, params["bias"][:, None]], axis=1)


Noise = Callable[[Latent], Float[Array, "*B L"]]


def noise_of(key: PRNGKeyArray) -> Noise:
    """`sampled` with a key of its own at each call."""
    count = iter(range(1000))
    return lambda latent: sampled(jax.random.fold_in(key, next(count)), latent)
