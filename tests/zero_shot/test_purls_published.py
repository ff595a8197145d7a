"""PURLS as published: loss and gradients against PyTorch, its size, and no way for labels in."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import purls_published
from dynapurls_jax.zero_shot.base import Shapes, unit
from dynapurls_jax.zero_shot.purls_published import PurlsPublishedSettings

B, S, N, C, D, G = 8, 6, 5, 4, 7, 8
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])
SHAPES = Shapes(KINECT_V1, (1, S, N), D)
QUERIES = ["label_free", "per_candidate", "oracle_label"]


@cache
def setup(query, **settings):
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(C, G, D)), jnp.float32))
    small = {"attention": 3, "hidden": 6, "dropout": 0.0}
    method = purls_published.make(PurlsPublishedSettings(query, **small | settings), SHAPES)
    variables = jax.jit(method.init)(jax.random.key(1), tokens, text)
    params = jax.tree.map(
        lambda leaf: np.float32(leaf + 0.3 * rng.normal(size=leaf.shape)),
        jax.device_get(variables["params"]),
    )
    return method, variables | {"params": params}, tokens, text


def linear(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def outputs(p, clip, queries):
    """`V` `[G, d]` of one clip `[S, n]`, under queries `[G, d]`."""
    clip = functional.normalize(clip, dim=-1)
    maps = (p["partition"][f"{name}_map"]["kernel"].chunk(2, -1) for name in ("query", "key"))
    heads = zip(*maps, strict=True)
    scores = sum((queries @ q) @ (clip @ k).T / np.sqrt(3) for q, k in heads) / 2
    x = (torch.softmax(scores, -1) @ clip).flatten()
    for number, activation in enumerate((functional.silu, torch.tanh)):
        norm = p["project"][f"LayerNorm_{number}"]
        x = functional.layer_norm(x, x.shape, norm["scale"], norm["bias"])
        x = activation(linear(p["project"][f"Dense_{number}"], x))
    return x.reshape(G, D)


def torch_logits(p, tokens, text, query, labels):
    """Logits `[B, C, G]`."""
    mean = functional.normalize(text.mean(0), dim=-1)
    rows = []
    for clip, y in zip(tokens, labels, strict=True):
        asked = {"label_free": mean, "per_candidate": None, "oracle_label": text[y]}[query]
        found = [outputs(p, clip, t if asked is None else asked) for t in text]
        rows.append(torch.stack([(v * t).sum(-1) for v, t in zip(found, text, strict=True)]))
    return p["factors"] * torch.stack(rows)


def in_torch(variables, tokens, text):
    def convert(leaf):
        return torch.tensor(np.array(leaf, np.float64), requires_grad=True)

    clips, texts = (torch.tensor(np.array(a, np.float64)) for a in (tokens, text))
    return jax.tree.map(convert, variables["params"]), clips, texts


@pytest.mark.slow
@pytest.mark.parametrize("query", QUERIES)
def test_the_loss_and_its_gradients_are_those_of_torch(query):
    method, variables, tokens, text = setup(query)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        batch = tokens, jnp.asarray(LABELS)
        both = {**variables, "params": params}
        return method.loss(both, batch, text, jax.random.key(3), jnp.int32(0))

    value, grads = loss(variables["params"])
    p, clips, texts = in_torch(variables, tokens, text)
    logits, own = torch_logits(p, clips, texts, query, LABELS)[:, LABELS], torch.arange(B)
    expected = sum(
        functional.cross_entropy(logits[..., g], own)
        + functional.cross_entropy(logits[..., g].T, own)
        for g in range(G)
    )
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-4)
    for (path, grad), tensor in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(p), strict=True
    ):
        np.testing.assert_allclose(
            grad, tensor.grad.numpy(), rtol=2e-3, atol=5e-5, err_msg=str(path)
        )


@pytest.mark.slow
@pytest.mark.parametrize("query", QUERIES)
def test_a_score_is_the_global_logit_and_the_oracle_alone_takes_labels(query):
    method, variables, tokens, text = setup(query)
    labels = np.roll(LABELS, 1)

    def run(function, *args):
        def logits(variables):
            candidates = method.bind(variables, text)
            return function(variables, method.encode(variables, tokens), candidates, *args)

        return jax.jit(logits)(variables)

    if query == "oracle_label":
        with pytest.raises(ValueError, match="needs the true labels"):
            run(method.score)
        found = run(method.oracle, jnp.asarray(labels))
    else:
        assert method.oracle is None
        found = run(method.score)
    with torch.no_grad():
        logits = torch_logits(*in_torch(variables, tokens, text), query, labels)
    np.testing.assert_allclose(found, logits[..., 0], atol=1e-4)


def test_the_number_of_parameters_is_the_published_one():
    shapes = Shapes(KINECT_V1, (3, 25, 256), 512)
    init = purls_published.make(PurlsPublishedSettings(), shapes).init
    tokens = jax.ShapeDtypeStruct((4, 75, 256), np.float32)
    text = jax.ShapeDtypeStruct((3, G, 512), np.float32)
    params = jax.eval_shape(init, jax.random.key(0), tokens, text)["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 6_533_128


@pytest.mark.slow
@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_it_learns_eight_clips_of_four_classes(query):
    method, variables, tokens, text = setup(query, hidden=16)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params):
        def step(carry, number):
            def loss(params):
                both, batch = {**variables, "params": params}, (tokens, jnp.asarray(LABELS))
                return method.loss(both, batch, text, jax.random.key(0), number)

            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        params = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(150))[0][0]
        learned = {**variables, "params": params}
        features, candidates = method.encode(learned, tokens), method.bind(learned, text)
        return method.score(learned, features, candidates)

    found = train(jax.tree.map(jnp.asarray, variables["params"]))
    np.testing.assert_array_equal(found.argmax(axis=-1), LABELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query": "label-free"}, "did you mean 'label_free'"),
        ({"heads": 0}, "heads: expected 1 or more, got 0"),
        ({"dropout": 2.0}, "dropout: expected a share"),
    ],
)
def test_settings_that_cannot_be_used_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        PurlsPublishedSettings(**settings)
