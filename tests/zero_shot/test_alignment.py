"""The alignment model: shapes, losses against direct sums, and no way for labels to leak."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.zero_shot.nn.losses import symmetric_info_nce
from dynapurls_jax.zero_shot.purls import ZeroShotModel, make_model, mean_text
from dynapurls_jax.zero_shot.oracle import oracle_hit_rate
from dynapurls_jax.zero_shot.nn.partition import Text, static_pool, unit
from data_pipelines.skeletons import KINECT_V1, KINECT_V2, PARTS

B, S, N, C, D, G = 6, 4, 5, 3, 7, 8


def _setup(query, head="row", score="weighted"):
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    rows = unit(jnp.asarray(rng.normal(size=(C, G, D)), jnp.float32))
    text = Text(rows, mean_text(rows))
    model = make_model(
        query=query, head=head, score=score, text_width=D, attention=4, hidden=16, dropout=0.1
    )
    return model, model.init(jax.random.key(0), tokens, text), tokens, text


@pytest.mark.parametrize("score", ["weighted", "global"])
@pytest.mark.parametrize("head", ["row", "joint"])
@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_score_equals_the_equations_written_out(query, head, score):
    model, variables, tokens, text = _setup(query, head, score)
    visual = model.encode(variables, tokens)
    standard = (tokens - tokens.mean((0, 1))) / (tokens.std((0, 1)) + 1e-3)
    np.testing.assert_allclose(visual.tokens, standard, atol=1e-4)
    p = variables["params"]
    logits = np.zeros((B, C))
    for b in range(B):
        for c in range(C):
            asks = text.query if query == "label_free" else text.classes[c]
            q = asks @ p["query_map"]["kernel"]
            k = standard[b] @ p["key_map"]["kernel"]
            attention = jax.nn.softmax(q @ k.T / np.sqrt(4), axis=-1)
            gathered = attention @ standard[b]
            head_params = p["project"]
            if head == "row":
                hidden = jax.nn.relu(gathered @ head_params["Dense_0"]["kernel"])
                v = hidden @ head_params["Dense_1"]["kernel"] + head_params["Dense_1"]["bias"]
            else:
                hidden = gathered.reshape(-1) @ head_params["Dense_0"]["kernel"]
                hidden = (hidden - hidden.mean()) / jnp.sqrt(hidden.var() + 1e-6)
                v = (jax.nn.silu(hidden) @ head_params["Dense_1"]["kernel"]).reshape(G, D)
            cosine = jnp.sum(unit(v) * text.classes[c], axis=-1)
            one = cosine[0] if score == "global" else cosine.mean()  # alpha starts uniform
            logits[b, c] = jnp.exp(p["log_scale"]) * one
    np.testing.assert_allclose(model.score(variables, visual, text), logits, atol=2e-4)


def test_info_nce_equals_sums_written_out():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(B, C, 2))
    labels = np.array([0, 1, 1, 2, 0, 1])
    weights = np.array([0.3, 0.7])
    total = 0.0
    for g in range(2):
        for b in range(B):
            y = labels[b]
            to_text = logits[b, y, g] - np.log(np.exp(logits[b, :, g]).sum())
            positives = [w for w in range(B) if labels[w] == y]
            column = logits[:, y, g]
            to_skeleton = np.mean([column[w] - np.log(np.exp(column).sum()) for w in positives])
            total -= weights[g] * 0.5 * (to_text + to_skeleton) / B
    got = symmetric_info_nce(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights))
    assert float(got) == pytest.approx(total, abs=1e-5)


def test_only_the_loss_takes_labels():
    """The functions that predict have no argument through which a label could come."""
    model, *_ = _setup("per_candidate")
    for name in set(ZeroShotModel._fields) - {"rows"}:
        arguments = inspect.signature(getattr(model, name)).parameters
        assert ("labels" in arguments) == (name == "loss"), name


def test_candidates_do_not_know_of_each_other():
    """per_candidate: a class's logit is the same whoever else is a candidate."""
    model, variables, tokens, text = _setup("per_candidate")
    visual = model.encode(variables, tokens)
    alone = model.score(variables, visual, Text(text.classes[1:2], text.query))
    np.testing.assert_allclose(model.score(variables, visual, text)[:, 1:2], alone, atol=1e-4)


def test_oracle_model_refuses_to_score_and_oracle_rate_follows_the_labels():
    model, variables, tokens, text = _setup("oracle_label")
    visual = model.encode(variables, tokens)
    with pytest.raises(ValueError, match="oracle_label needs the true labels"):
        model.score(variables, visual, text)
    rates = [
        float(oracle_hit_rate(model, variables, visual, text, jnp.full(B, label)))
        for label in range(C)
    ]
    assert len(rates) == C
    assert all(0 <= rate <= 1 for rate in rates)


@pytest.mark.parametrize("query", ["label_free", "per_candidate", "oracle_label"])
def test_loss_decreases_on_one_batch(query):
    model, variables, tokens, text = _setup(query)
    labels = jnp.array([0, 1, 2, 0, 1, 2])

    @jax.jit
    def step(params):
        value, grads = jax.value_and_grad(
            lambda p: model.loss(
                {**variables, "params": p}, tokens, labels, text, jax.random.key(1)
            )
        )(params)
        return jax.tree.map(lambda a, g: a - 0.05 * g, params, grads), value

    params, values = variables["params"], []
    for _ in range(30):
        params, value = step(params)
        values.append(float(value))
    assert np.isfinite(values).all()
    assert values[-1] < 0.7 * values[0]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"query": "label-free"}, "did you mean 'label_free'"),
        ({"head": "rows"}, "did you mean 'row'"),
        ({"score": "x"}, "Known: global, weighted"),
        ({"granularities": "part"}, "did you mean 'parts'"),
        ({"weights": "averaged"}, "did you mean 'average'"),
        ({"head": "joint", "granularities": "global"}, "expected granularities=all with it"),
    ],
)
def test_unknown_names_are_errors(argument, message):
    settings = {"query": "label_free", "head": "row", "score": "global"} | argument
    with pytest.raises(ValueError, match=message):
        make_model(text_width=4, **settings)


@pytest.mark.parametrize("skeleton", [KINECT_V1, KINECT_V2])
@pytest.mark.parametrize("segments", [3, 6, 4])
def test_static_pool_takes_body_parts_and_thirds_of_the_time(skeleton, segments):
    pool = static_pool(skeleton, segments).reshape(G, segments, skeleton.num_joints)
    np.testing.assert_allclose(pool.sum(axis=(1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(pool[0], pool[0, 0, 0])
    for row, part in zip(pool[1:5], PARTS, strict=True):
        assert set(np.flatnonzero(row.any(axis=0))) == set(skeleton.parts[part])
        np.testing.assert_allclose(row.sum(axis=1), 1 / segments, atol=1e-6)
    np.testing.assert_allclose(pool[1:5].astype(bool).sum(axis=0), 1)  # nobody's, and nobody twice
    phases = pool[5:].sum(axis=2)
    expected = {
        3: np.eye(3),
        6: np.repeat(np.eye(3) / 2, 2, axis=1),
        4: np.array([[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.25, 0.75]]),
    }[segments]
    np.testing.assert_allclose(phases, expected, atol=1e-6)


def test_a_static_partition_gathers_by_its_pool_whatever_is_asked():
    model, variables, tokens, text = _setup("label_free")
    pool = jax.nn.softmax(jax.random.normal(jax.random.key(3), (G, S)))
    variables = model.init(jax.random.key(0), tokens, text, pool)
    visual = model.encode(variables, tokens)
    head = variables["params"]["project"]
    gathered = np.einsum("gs,bsn->bgn", pool, visual.tokens)
    hidden = jax.nn.relu(gathered @ head["Dense_0"]["kernel"])
    expected = unit(hidden @ head["Dense_1"]["kernel"] + head["Dense_1"]["bias"])
    for queries in (text.query[None, None], -text.query[None, None]):
        projected = model.project(variables, visual, queries)
        np.testing.assert_allclose(projected[:, 0], expected, atol=2e-4)
    globally = model.project(variables, visual, text.query[None, None, :1])
    np.testing.assert_allclose(globally[:, 0], expected[:, :1], atol=2e-4)
    some = jax.tree.map(lambda leaf: leaf[:, 1:3], visual)  # as in the views of tpt
    where = model.attend(variables, some, text.query[None, None])
    np.testing.assert_allclose(where[0, 0], pool[:, 1:3] / pool[:, 1:3].sum(1, keepdims=True), 1e-4)


@pytest.mark.parametrize(
    ("granularities", "used"),
    [("all", range(8)), ("global", [0]), ("parts", range(5)), ("phases", [0, 5, 6, 7])],
)
@pytest.mark.parametrize("weights", ["learned", "average"])
def test_only_what_is_used_is_trained_and_weighted(granularities, used, weights):
    _, variables, tokens, text = _setup("label_free")
    model = make_model(
        query="label_free",
        head="row",
        score="weighted",
        text_width=D,
        granularities=granularities,
        weights=weights,
        attention=4,
        hidden=16,
    )
    alpha = jnp.arange(8.0)
    variables["params"]["alpha"] = alpha

    def loss(classes, params):
        own = {**variables, "params": params}
        labels = jnp.array([0, 1, 2, 0, 1, 2])
        return model.loss(own, tokens, labels, Text(classes, text.query), jax.random.key(0))

    by_text, by_params = jax.grad(loss, argnums=(0, 1))(text.classes, variables["params"])
    moved = np.flatnonzero(np.abs(by_text).sum(axis=(0, 2)) > 0)
    np.testing.assert_array_equal(moved, list(used))
    learns = weights == "learned" and granularities != "global"  # one weight is always 1
    assert bool(np.any(by_params["alpha"] != 0)) == learns
    cosines = np.einsum(
        "bgd,cgd->bcg",
        model.project(variables, model.encode(variables, tokens), text.query[None, None])[:, 0],
        text.classes,
    )
    share = np.zeros(8)
    share[list(used)] = np.exp(alpha[jnp.array(list(used))]) if weights == "learned" else 1
    scale = np.exp(variables["params"]["log_scale"])
    expected = scale * cosines @ (share / share.sum())
    logits = model.score(variables, model.encode(variables, tokens), text)
    np.testing.assert_allclose(logits, expected, atol=2e-4)
