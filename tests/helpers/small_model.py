"""Small zero-shot methods with random weights, and their input streams."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import purls, ridge
from dynapurls_jax.zero_shot.base import Candidates, Shapes

S, N, H, D, G = 4, 6, 5, 7, 8
SHAPES = Shapes(KINECT_V1, (1, S, N), D)
KINDS = ("label_free", "per_candidate", "ridge")


def small_tokens(count, seed=0):
    """Tokens of `count` samples; tokens vary less within a sample than between samples."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(count, 1, N))
    return jnp.asarray(whole + 0.3 * rng.normal(size=(count, S, N)), jnp.float32)


def small_text(classes, seed=1):
    """Random text embeddings `[C, G, d]`, unit rows."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(unit_rows(rng.normal(size=(classes, G, D))), jnp.float32)


@cache
def small_model(kind="label_free", score="global", classes=4):
    """Method, variables, and candidates near samples, so that predictions vary.

    Args:
      kind: "ridge", or the query of PURLS.
      score: score of PURLS.
    """
    tokens, text = small_tokens(30), small_text(classes)
    if kind == "ridge":
        model = ridge.ENTRY.make(ridge.RidgeSettings(components=5), SHAPES)
        labels = jnp.arange(30) % classes
        variables = jax.jit(model.fit)(jax.random.key(0), tokens, labels, text)
        one = model.bind(variables, text[:1])
    else:
        settings = purls.PurlsSettings(query=kind, score=score, attention=H, hidden=16)
        model = purls.ENTRY.make(settings, SHAPES)
        variables = random_variables(model, tokens, text)
        one = Candidates(variables["query"][None], variables["query"])  # the query as a class

    @jax.jit
    def vectors_of(tokens):
        features = model.encode(variables, tokens)
        return model.embedding.embed(variables, features, one)[:, 0]

    vectors = np.asarray(vectors_of(tokens))  # [30, G, e]
    moved = (vectors - vectors.mean(axis=0))[:classes]
    moved += 0.1 * unit_rows(np.random.default_rng(2).normal(size=moved.shape))
    return model, variables, one._replace(classes=jnp.asarray(unit_rows(moved), jnp.float32))


def random_variables(model, tokens, text):
    """The result of `model.init` with NumPy parameters: JAX compiles random ones for seconds."""
    rng = np.random.default_rng(0)

    def init():
        return model.init(jax.random.key(0), tokens, text)

    def random(path, leaf):
        if path[-1].key == "log_scale":
            return jnp.full((), 2.7)
        return jnp.asarray(rng.normal(size=leaf.shape) / leaf.shape[0] ** 0.5, leaf.dtype)

    params = jax.tree_util.tree_map_with_path(random, jax.eval_shape(init)["params"])
    rest = jax.jit(lambda: {key: value for key, value in init().items() if key != "params"})
    return {"params": params, **rest()}


def unit_rows(x):
    """NumPy rows of unit length."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def part(features, *where):
    """A slice of a stream."""
    return jax.tree.map(lambda leaf: leaf[slice(*where)], features)
