"""The static partition: its weights, and features that are independent of queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1, KINECT_V2, PARTS
from dynapurls_jax.zero_shot.base import Candidates, Shapes, unit
from dynapurls_jax.zero_shot.nn.static_partition import pool_shares
from dynapurls_jax.zero_shot.purls import PurlsSettings, make

G, D, N = 8, 7, 5


@pytest.mark.parametrize("skeleton", [KINECT_V1, KINECT_V2])
@pytest.mark.parametrize("segments", [3, 6, 4])
def test_shares_are_body_parts_and_thirds_of_the_time(skeleton, segments):
    pool = pool_shares(skeleton, segments).reshape(G, segments, skeleton.num_joints)
    np.testing.assert_allclose(pool.sum(axis=(1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(pool[0], pool[0, 0, 0])
    for shares, part in zip(pool[1:5], PARTS, strict=True):
        assert set(np.flatnonzero(shares.any(axis=0))) == set(skeleton.parts[part])
        np.testing.assert_allclose(shares.sum(axis=1), 1 / segments, atol=1e-6)
    np.testing.assert_allclose(pool[1:5].astype(bool).sum(axis=0), 1)  # each joint in one part
    phases = pool[5:].sum(axis=2)
    expected = {
        3: np.eye(3),
        6: np.repeat(np.eye(3) / 2, 2, axis=1),
        4: np.array([[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.25, 0.75]]),
    }[segments]
    np.testing.assert_allclose(phases, expected, atol=1e-6)


def test_tokens_are_gathered_by_their_shares_under_any_query():
    model = make(PurlsSettings(partition="static", hidden=16), Shapes(KINECT_V1, (3, 20, N), D))
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(4, 60, N)), jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(3, G, D)), jnp.float32))
    variables = jax.jit(model.init)(jax.random.key(0), tokens, text)
    features = model.encode(variables, tokens)
    head, pool = variables["params"]["project"], pool_shares(KINECT_V1, 3)
    gathered = np.einsum("gs,bsn->bgn", pool, features.tokens)
    hidden = jax.nn.relu(gathered @ head["Dense_0"]["kernel"])
    expected = unit(hidden @ head["Dense_1"]["kernel"] + head["Dense_1"]["bias"])
    for query in (variables["query"], -variables["query"]):
        embedded = model.embedding.embed(variables, features, Candidates(text, query))
        np.testing.assert_allclose(embedded[:, 0], expected, atol=2e-4)
    candidates = Candidates(text, variables["query"])
    scored = model.embedding.scored(candidates)
    globally = model.embedding.embed(variables, features, scored)
    np.testing.assert_allclose(globally[:, 0], expected[:, :1], atol=2e-4)
    some = jax.tree.map(lambda leaf: leaf[:, 1:30], features)  # as in the views of tpt
    where = np.asarray(model.attend(variables, some, candidates))[0, 0]
    total = pool[:, 1:30].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(where, pool[:, 1:30] / np.maximum(total, 1e-9), atol=1e-5)


def test_tokens_that_are_not_joints_are_errors():
    with pytest.raises(ValueError, match=r"needs tokens of joints: expected 20 .*got 49"):
        make(PurlsSettings(partition="static"), Shapes(KINECT_V1, (3, 49, N), D))
