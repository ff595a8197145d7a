"""Small zero-shot methods with random weights, and streams for them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import purls, ridge
from dynapurls_jax.zero_shot.base import Candidates, Shapes, unit

S, N, H, D, G = 4, 6, 5, 7, 8
SHAPES = Shapes(KINECT_V1, (1, S, N), D)
KINDS = ("label_free", "per_candidate", "ridge")


def small_tokens(count, seed=0):
    """Tokens of `count` samples, those of a sample alike, so that samples differ."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(count, 1, N))
    return jnp.asarray(whole + 0.3 * rng.normal(size=(count, S, N)), jnp.float32)


def small_text(classes, seed=1):
    """Random texts `[C, G, d]`, unit rows."""
    rng = np.random.default_rng(seed)
    return unit(jnp.asarray(rng.normal(size=(classes, G, D)), jnp.float32))


@cache
def small_model(kind="label_free", score="global", classes=4):
    """Method, variables, and candidates that lie near samples: no class takes all.

    Args:
      kind: "ridge", or the query of a "purls".
      score: of a "purls".
    """
    if kind == "ridge":
        model = ridge.ENTRY.make(ridge.RidgeSettings(components=5), SHAPES)
    else:
        settings = purls.PurlsSettings(query=kind, score=score, attention=H, hidden=16)
        model = purls.ENTRY.make(settings, SHAPES)

    @jax.jit  # one program in place of many small ones
    def fitted():
        tokens, text = small_tokens(30), small_text(classes)
        if model.fit is not None:
            variables = model.fit(jax.random.key(0), tokens, jnp.arange(30) % classes, text)
            one = model.bind(variables, text[:1])
        else:
            variables = model.init(jax.random.key(0), tokens, text)
            one = Candidates(variables["query"][None], variables["query"])  # the query as a class
        vectors = model.embedding.embed(variables, model.encode(variables, tokens), one)[:, 0]
        moved = vectors - vectors.mean(axis=0)  # [30, G, e]
        noise = unit(jax.random.normal(jax.random.key(1), (classes, *moved.shape[1:])))
        return variables, one._replace(classes=unit(moved[:classes] + 0.1 * noise))

    return model, *fitted()


def first(features):
    """One sample of a stream."""
    return jax.tree.map(lambda leaf: leaf[0], features)


def part(features, *where):
    """A slice of a stream."""
    return jax.tree.map(lambda leaf: leaf[slice(*where)], features)
