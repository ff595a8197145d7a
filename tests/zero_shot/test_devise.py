"""DeViSE: its loss and score against direct sums, and training on a small problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot.base import Shapes, unit
from dynapurls_jax.zero_shot.devise import DeviseSettings, make

B, S, N, C, D = 6, 4, 5, 3, 7
LABELS = jnp.array([0, 1, 2, 0, 1, 2])


def setup(**settings):
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(C, 8, D)), jnp.float32))
    method = make(DeviseSettings(**settings), Shapes(KINECT_V1, (1, S, N), D))
    return method, method.init(jax.random.key(0), tokens, text), tokens, text


@pytest.mark.parametrize("granularities", ["global", "all"])
def test_loss_and_score_equal_direct_sums(granularities):
    method, variables, tokens, text = setup(granularities=granularities, margin=0.3)
    matrix = np.asarray(variables["params"]["matrix"])
    pooled = np.asarray(tokens).mean(axis=1)
    x = (pooled - pooled.mean(axis=0)) / (pooled.std(axis=0) + 1e-3)
    chosen = np.asarray(text)[:, :1] if granularities == "global" else np.asarray(text)
    t = chosen.reshape(C, -1)
    t = t / np.linalg.norm(t, axis=-1, keepdims=True)
    total = 0.0
    for b in range(B):
        mapped, y = x[b] @ matrix, int(LABELS[b])
        for j in set(range(C)) - {y}:
            total += max(0.0, 0.3 - t[y] @ mapped + t[j] @ mapped)
    got = method.loss(variables, (tokens, LABELS), text, jax.random.key(0), jnp.int32(0))
    assert float(got) == pytest.approx(total / B, rel=1e-4)
    mapped = x @ matrix
    mapped = mapped / np.linalg.norm(mapped, axis=-1, keepdims=True)
    candidates = method.bind(variables, text)
    logits = method.score(variables, method.encode(variables, tokens), candidates)
    np.testing.assert_allclose(logits, mapped @ t.T / 0.07, rtol=1e-3, atol=1e-3)
    assert float(method.embedding.scale(variables)) == pytest.approx(1 / 0.07)


def test_training_fits_one_batch():
    method, variables, tokens, text = setup()

    @jax.jit
    def step(params):
        def loss(params):
            both = {**variables, "params": params}
            return method.loss(both, (tokens, LABELS), text, jax.random.key(0), jnp.int32(0))

        return jax.tree.map(lambda a, g: a - 0.3 * g, params, jax.grad(loss)(params))

    params = variables["params"]
    for _ in range(100):
        params = step(params)
    variables = {**variables, "params": params}
    candidates = method.bind(variables, text)
    logits = method.score(variables, method.encode(variables, tokens), candidates)
    np.testing.assert_array_equal(logits.argmax(axis=-1), LABELS)
