"""SMIE's temporal constraint: against plain NumPy, without effect at weight 0, and its checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import smie
from dynapurls_jax.zero_shot.base import Shapes, unit
from tests.helpers.torch_losses import KEY, LABELS, B, C, D, N, S, layers_of, linear

TEXT = unit(jax.random.normal(jax.random.key(4), (C, 8, D)))


def smie_loss(shape, settings, tokens, text, key=KEY):
    method = smie.make(smie.SmieSettings(hidden=8, **settings), Shapes(KINECT_V1, shape, D))
    batch = jnp.asarray(tokens), jnp.asarray(LABELS)
    variables = method.init(jax.random.key(1), batch[0], text)
    return variables, float(method.loss(variables, batch, text, key, jnp.int32(0)))


def test_temporal_constraint_of_smie():
    shape, rng = (10, S, N), np.random.default_rng(2)
    tokens = rng.normal(size=(B, 10 * S, N)).astype(np.float32)
    variables, plain = smie_loss(shape, {}, tokens, TEXT)
    _, found = smie_loss(shape, {"constraint": 0.5, "margin": 2.0}, tokens, TEXT)
    known = jax.tree.map(np.asarray, variables["features"])
    layers = [
        jax.tree.map(np.asarray, layer) for layer in layers_of(variables["params"]["network"])
    ]
    draws, pooled = np.asarray(jax.random.uniform(KEY, (B, 10))), []
    for b, clip in enumerate(tokens.reshape(B, 10, S, N)):
        motion = [
            sum(((clip[t] - clip[u]) ** 2).mean() for u in (t - 1, t + 1) if 0 <= u < 10)
            for t in range(10)
        ]
        still = np.sort(np.argsort(motion)[:7])
        kept = still[np.argsort(draws[b, still])[:4]]
        pooled.append(clip[kept].reshape(-1, N).mean(axis=0))

    def positive(x):
        """The mean of softplus(-D) of the clips and their texts."""
        x = (x - known["mean"]) / known["std"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        h = np.concatenate([x, np.asarray(TEXT)[LABELS, 0]], axis=-1)
        for layer in layers[:-1]:
            h = np.maximum(0, linear(layer, h))
        return np.log1p(np.exp(-linear(layers[-1], h))).mean()

    lost = positive(np.stack(pooled)) - positive(tokens.mean(axis=1))
    assert lost < 2.0
    assert found == pytest.approx(plain + 0.5 * (2.0 - lost), rel=1e-5)


def test_without_its_constraint_smie_takes_tokens_of_any_shape_and_no_noise():
    tokens = np.random.default_rng(0).normal(size=(B, S, N)).astype(np.float32)
    losses = {
        smie_loss(shape, {"constraint": 0.0, "margin": margin}, tokens, TEXT, key)[1]
        for shape, margin, key in [((1, S, N), 0.1, KEY), ((7, 9, N), 3.0, jax.random.key(8))]
    }
    assert len(losses) == 1


def test_the_constraint_of_smie_needs_pooled_features_of_three_segments():
    with pytest.raises(ValueError, match='needs features "mean", not "tokens"'):
        smie.SmieSettings(features="tokens", constraint=0.5)
    with pytest.raises(ValueError, match="needs 3 segments of time or more, not 1"):
        smie.make(smie.SmieSettings(constraint=0.5), Shapes(KINECT_V1, (1, S, N), D))
