"""PURLS: scores against the equations, losses against direct sums, predictions without labels."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.registry import section_of
from dynapurls_jax.zero_shot.base import Candidates, Shapes, unit
from dynapurls_jax.zero_shot.nn.losses import symmetric_info_nce
from dynapurls_jax.zero_shot.purls import PurlsSettings, at_most, make, mean_text
from dynapurls_jax.zero_shot.registry import METHODS, make_method

B, S, N, C, D, G = 6, 40, 5, 3, 7, 8
SHAPES = Shapes(KINECT_V1, (2, 20, N), D)


@cache
def _setup(query, **settings):
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(C, G, D)), jnp.float32))
    chosen = {"score": "weighted", "attention": 4, "hidden": 16, "dropout": 0.1} | settings
    model = make(PurlsSettings(query=query, **chosen), SHAPES)
    variables = jax.jit(model.init)(jax.random.key(0), tokens, text)
    return model, variables, tokens, text


def scores_of(model, variables, tokens, text):
    """Logits, compiled."""

    @jax.jit
    def run(variables, tokens, text):
        candidates = model.bind(variables, text)
        return model.score(variables, model.encode(variables, tokens), candidates)

    return run(variables, tokens, text)


@pytest.mark.parametrize("score", ["weighted", "global"])
@pytest.mark.parametrize("head", ["row", "joint", "separate"])
@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_score_equals_the_equations(query, head, score):
    repaired = {"centred": head == "separate", "unit_logits": head == "separate"}
    model, variables, tokens, text = _setup(query, head=head, score=score, **repaired)
    p = variables["params"]
    mean, sharpness = text.mean(axis=0), 1.0
    if head == "separate":
        p["partition"]["log_sharpness"] = jnp.array(0.3)
        sharpness = np.sqrt(D) * np.exp(0.3)
    standard = np.asarray((tokens - tokens.mean((0, 1))) / (tokens.std((0, 1)) + 1e-3))
    np.testing.assert_allclose(model.encode(variables, tokens).tokens, standard, atol=1e-4)
    partition, head_params = p["partition"], p["project"]
    query_map, key_map = (np.asarray(partition[f"{n}_map"]["kernel"]) for n in ("query", "key"))
    if head != "separate":
        first, second = (np.asarray(head_params[f"Dense_{n}"]["kernel"]) for n in (0, 1))
    classes = np.asarray(unit(text - mean) if head == "separate" else text)
    logits = np.zeros((B, C))
    for b in range(B):
        for c in range(C):
            queries = np.asarray(mean_text(text) if query == "label_free" else classes[c])
            scores = sharpness * (queries @ query_map) @ (standard[b] @ key_map).T / np.sqrt(4)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            gathered = weights / weights.sum(axis=-1, keepdims=True) @ standard[b]
            if head == "row":
                v = np.maximum(gathered @ first, 0) @ second
            elif head == "separate":
                first, second = (np.asarray(head_params[name]) for name in ("first", "second"))
                rows = zip(gathered, first, second, strict=True)
                v = np.stack([np.maximum(row @ a, 0) @ b for row, a, b in rows])
            else:
                hidden = gathered.reshape(-1) @ first
                hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-6)
                v = (hidden / (1 + np.exp(-hidden)) @ second).reshape(G, D)
            v = v / np.linalg.norm(v, axis=-1, keepdims=True)
            cosine = np.sum(v * classes[c], axis=-1)
            one = cosine[0] if score == "global" else cosine.mean()  # alpha starts uniform
            logits[b, c] = np.exp(p["log_scale"]) * one
    np.testing.assert_allclose(scores_of(model, variables, tokens, text), logits, atol=5e-4)


def test_info_nce_equals_direct_sums():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(B, C, 2))
    labels = np.array([0, 1, 1, 2, 0, 1])
    weights = np.array([0.3, 0.7])
    total = 0.0
    for g in range(2):
        for b in range(B):
            y = labels[b]
            to_text = logits[b, y, g] - np.log(np.exp(logits[b, :, g]).sum())
            column = logits[:, y, g]
            to_skeleton = column[b] - np.log(np.exp(column).sum())
            total -= weights[g] * 0.5 * (to_text + to_skeleton) / B
    got = symmetric_info_nce(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights))
    assert float(got) == pytest.approx(total, abs=1e-5)


def test_equal_settings_give_the_same_method_object():
    section = METHODS.section("purls")
    assert make_method(section, SHAPES) is make_method(section, SHAPES)
    section.purls.hidden = 8
    assert make_method(section, SHAPES) is not make_method(METHODS.section("purls"), SHAPES)


def test_candidates_are_independent():
    """per_candidate: the logit of a class does not depend on the other candidates."""
    model, variables, tokens, text = _setup("per_candidate")
    alone = scores_of(model, variables, tokens, text[1:2])
    every = scores_of(model, variables, tokens, text)
    np.testing.assert_allclose(every[:, 1:2], alone, atol=1e-4)


def test_an_oracle_model_has_no_score_and_depends_on_the_labels():
    model, variables, tokens, text = _setup("oracle_label")
    with pytest.raises(ValueError, match="oracle_label needs the true labels"):
        scores_of(model, variables, tokens, text)
    features, candidates = model.encode(variables, tokens), model.bind(variables, text)
    found = [model.oracle(variables, features, candidates, jnp.full(B, c)) for c in range(C)]
    assert all(logits.shape == (B, C) for logits in found)
    assert not np.allclose(found[0], found[1])
    assert _setup("label_free")[0].oracle is None


@pytest.mark.parametrize("query", ["label_free", "per_candidate", "oracle_label"])
def test_loss_decreases_on_one_batch(query):
    model, variables, tokens, text = _setup(query)
    batch = (tokens, jnp.array([0, 1, 2, 0, 1, 2]))

    @jax.jit
    def step(params):
        def loss(params):
            both = {**variables, "params": params}
            return model.loss(both, batch, text, jax.random.key(1), jnp.int32(0))

        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda a, g: a - 0.05 * g, params, grads), value

    params, values = variables["params"], []
    for _ in range(30):
        params, value = step(params)
        values.append(float(value))
    assert np.isfinite(values).all()
    assert values[-1] < 0.7 * values[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query": "label-free"}, "did you mean 'label_free'"),
        ({"head": "rows"}, "did you mean 'row'"),
        ({"score": "x"}, "Known: global, weighted"),
        ({"partition": "fixed"}, "Known: adaptive, static"),
        ({"granularities": "part"}, "did you mean 'parts'"),
        ({"weights": "averaged"}, "did you mean 'average'"),
        ({"head": "joint", "granularities": "global"}, "expected granularities=all with it"),
        ({"partition": "static", "query": "per_candidate"}, "expected query=label_free with it"),
        ({"hidden": 0}, "hidden: expected 1 or more, got 0"),
    ],
)
def test_invalid_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        PurlsSettings(**settings)


def test_the_configuration_has_every_setting_and_its_errors_name_the_wrong_one():
    section = METHODS.section("purls")
    assert section.purls == section_of(PurlsSettings)
    section.purls.head = "rows"
    with pytest.raises(ValueError, match=r"method\.purls: unknown head 'rows'"):
        METHODS.settings(section)
    section.name = "purl"
    with pytest.raises(ValueError, match="unknown method 'purl'; did you mean 'purls'"):
        METHODS.settings(section)


@pytest.mark.parametrize(
    ("granularities", "used"),
    [("all", range(8)), ("global", [0]), ("parts", range(5)), ("phases", [0, 5, 6, 7])],
)
@pytest.mark.parametrize("weights", ["learned", "average"])
def test_only_the_chosen_granularities_are_trained_and_weighted(granularities, used, weights):
    _, variables, tokens, text = _setup("label_free")
    model = _setup("label_free", granularities=granularities, weights=weights)[0]
    alpha = jnp.arange(8.0)
    variables = {**variables, "params": variables["params"] | {"alpha": alpha}}

    @jax.jit
    def gradients(text, params):
        def loss(text, params):
            batch = (tokens, jnp.array([0, 1, 2, 0, 1, 2]))
            return model.loss(
                {**variables, "params": params}, batch, text, jax.random.key(0), jnp.int32(0)
            )

        return jax.grad(loss, argnums=(0, 1))(text, params)

    by_text, by_params = gradients(text, variables["params"])
    moved = np.flatnonzero(np.abs(by_text).sum(axis=(0, 2)) > 0)
    np.testing.assert_array_equal(moved, list(used))
    learns = weights == "learned" and granularities != "global"  # one weight is always 1
    assert bool(np.any(np.abs(by_params["alpha"]) > 1e-5)) == learns
    features, candidates = model.encode(variables, tokens), model.bind(variables, text)
    embedded = model.embedding.embed(variables, features, candidates)[:, 0]
    share = np.zeros(8)
    share[list(used)] = np.exp(alpha[jnp.array(list(used))]) if weights == "learned" else 1
    similarity = np.einsum("bgd,cgd->bcg", embedded, text) @ (share / share.sum())
    expected = np.exp(variables["params"]["log_scale"]) * similarity
    got = scores_of(model, variables, tokens, text)
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_scored_granularities_are_the_first_or_all():
    candidates = Candidates(jnp.ones((C, G, D)), jnp.ones((G, D)))
    for settings, expected in (
        ({"score": "global"}, 1),
        ({"score": "weighted"}, G),
        ({"score": "global", "head": "joint"}, G),
    ):
        scored = _setup("label_free", **settings)[0].embedding.scored(candidates)
        assert (scored.classes.shape[1], scored.query.shape[0]) == (expected, expected)


def test_a_scale_above_its_bound_can_return():
    """Above the bound, gradients that raise the scale are 0, and others pass."""
    for x, pull, expected in ((1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (3.0, -1.0, 0.0)):
        gradient = jax.grad(lambda x, pull=pull: pull * at_most(x, 2.0))(jnp.float32(x))
        assert float(gradient) == expected
    assert float(at_most(jnp.float32(3.0), 2.0)) == 2.0


def test_the_temperature_of_a_method_can_return_from_above_its_bound():
    model, variables, tokens, text = _setup("label_free")
    params = variables["params"] | {"log_scale": jnp.float32(5.0)}
    batch = (tokens, jnp.array([0, 1, 2, 0, 1, 2]))

    @jax.jit
    def gradient(params):
        def loss(params):
            both = {**variables, "params": params}
            return model.loss(both, batch, text, jax.random.key(1), jnp.int32(0))

        return jax.grad(loss)(params)["log_scale"]

    assert float(model.embedding.scale({**variables, "params": params})) == pytest.approx(100)
    assert float(gradient(params)) > 0  # untrained at 1 / tau = 100, it must fall
