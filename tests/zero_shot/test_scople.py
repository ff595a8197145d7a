"""SCoPLe's approximation: loss and gradients against PyTorch, scores, and what it can learn."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import purls, scople
from dynapurls_jax.zero_shot.base import Shapes, unit
from dynapurls_jax.zero_shot.purls import REPAIRED, PurlsSettings
from dynapurls_jax.zero_shot.scople import ScopleSettings
from tests.helpers.cases import slow

B, S, N, C, D, G = 8, 6, 5, 4, 7, 8
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])
SHAPES = Shapes(KINECT_V1, (1, S, N), D)
SMALL = {"attention": 3, "hidden": 6, "adapter": 4}


@cache
def setup(moved=True, **settings):
    """A method with its variables, `moved` from where they start."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(C, G, D)), jnp.float32))
    method = scople.make(ScopleSettings(**SMALL | settings), SHAPES)
    variables = jax.jit(method.init)(jax.random.key(1), tokens, text)
    params = jax.tree.map(
        lambda leaf: np.float32(leaf + 0.2 * moved * rng.normal(size=leaf.shape)),
        jax.device_get(variables["params"]),
    )
    return method, variables | {"params": params}, tokens, text


def scores_of(method, variables, tokens, text):
    @jax.jit
    def run(variables):
        features = method.encode(variables, tokens)
        return method.score(variables, features, method.bind(variables, text))

    return run(variables)


def linear(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def cosines(p, tokens, text, query):
    """Cosines `[B, C, 2, G]` of the two streams."""

    def adapted(t):
        hidden = functional.silu(linear(p["adapter"]["Dense_0"], t))
        moved = p["adapter"]["factor"] * linear(p["adapter"]["Dense_1"], hidden)
        return functional.normalize(t + moved, dim=-1)

    rows = []
    for stream in (lambda t: t, adapted):
        classes = stream(text)
        mean = stream(functional.normalize(text.mean(0), dim=-1))
        asked = mean.expand(classes.shape) if query == "label_free" else classes
        queries = asked @ p["partition"]["query_map"]["kernel"] / np.sqrt(3)
        keys = tokens @ p["partition"]["key_map"]["kernel"]
        shares = torch.softmax(torch.einsum("cgh,bsh->bcgs", queries, keys), -1)
        gathered = torch.einsum("bcgs,bsn->bcgn", shares, tokens)
        hidden = torch.relu(linear(p["project"]["Dense_0"], gathered))
        found = functional.normalize(linear(p["project"]["Dense_1"], hidden), dim=-1)
        rows.append((found * classes).sum(-1))
    return torch.stack(rows, 2)


def in_torch(variables, tokens, text):
    def convert(leaf):
        return torch.tensor(np.array(leaf, np.float64), requires_grad=True)

    clips = np.asarray(tokens, np.float64)
    clips = (clips - clips.mean(axis=(0, 1))) / (clips.std(axis=(0, 1)) + 1e-3)
    texts = torch.tensor(np.array(text, np.float64))
    return jax.tree.map(convert, variables["params"]), torch.tensor(clips), texts


@pytest.mark.slow
@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_the_loss_and_its_gradients_are_those_of_torch(query):
    method, variables, tokens, text = setup(query=query)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        batch, both = (tokens, jnp.asarray(LABELS)), {**variables, "params": params}
        return method.loss(both, batch, text, jax.random.key(3), jnp.int32(0))

    value, grads = loss(variables["params"])
    p, clips, texts = in_torch(variables, tokens, text)
    logits, y = p["log_scale"].exp() * cosines(p, clips, texts, query), torch.tensor(LABELS)
    expected = 0.0
    for g, weight in enumerate(torch.softmax(p["alpha"], 0)):
        for stream in range(2):
            each = logits[:, :, stream, g]
            to_text = functional.cross_entropy(each, y)
            to_clips = functional.cross_entropy(each[:, y].T, torch.arange(B))
            expected = expected + weight / 2 * (to_text + to_clips) / 2
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-4)
    for (path, grad), tensor in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(p), strict=True
    ):
        want = tensor.grad.numpy()
        np.testing.assert_allclose(grad, want, rtol=2e-3, atol=5e-5, err_msg=str(path))


@pytest.mark.parametrize("score", [slow("global"), "weighted"])
def test_a_score_is_the_mean_logit_of_both_streams(score):
    method, variables, tokens, text = setup(query="per_candidate", score=score)
    with torch.no_grad():
        p, clips, texts = in_torch(variables, tokens, text)
        logits = p["log_scale"].exp() * cosines(p, clips, texts, "per_candidate").mean(2)
        weights = torch.softmax(p["alpha"], 0)
        expected = logits[..., 0] if score == "global" else logits @ weights
    np.testing.assert_allclose(scores_of(method, variables, tokens, text), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [REPAIRED, {"head": "joint"}], ids=["repaired", "joint"])
def test_without_its_adapter_it_is_purls(settings):
    """At the start the adapted text is the text, for every head and score."""
    method, variables, tokens, text = setup(moved=False, **settings)
    small = {key: value for key, value in SMALL.items() if key != "adapter"}
    single = purls.make(PurlsSettings(**small | settings), SHAPES)
    expected = scores_of(single, variables, tokens, text)
    np.testing.assert_allclose(scores_of(method, variables, tokens, text), expected, atol=1e-4)
    features, candidates = method.encode(variables, tokens), method.bind(variables, text)
    assert method.attend(variables, features, candidates).shape == (B, 1, G, S)


@pytest.mark.slow
def test_it_learns_eight_clips_of_four_classes():
    method, variables, tokens, text = setup(moved=False, hidden=16)
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

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(150))[0][0]

    params = train(jax.tree.map(jnp.asarray, variables["params"]))
    found = scores_of(method, {**variables, "params": params}, tokens, text)
    np.testing.assert_array_equal(found.argmax(axis=-1), LABELS)
    assert np.abs(params["adapter"]["factor"]).max() > 0.01


def test_the_number_of_parameters_is_that_of_purls_and_of_the_adapter():
    shapes = Shapes(KINECT_V1, (3, 25, 256), 512)
    tokens = jax.ShapeDtypeStruct((4, 75, 256), np.float32)
    text = jax.ShapeDtypeStruct((3, G, 512), np.float32)
    counts = []
    for module, settings in ((purls, PurlsSettings()), (scople, ScopleSettings())):
        init = module.make(settings, shapes).init
        params = jax.eval_shape(init, jax.random.key(0), tokens, text)["params"]
        counts.append(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)))
    assert counts[1] - counts[0] == (512 * 128 + 128) + (128 * 512 + 512) + 512


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query": "oracle_label"}, "expected query=label_free or per_candidate"),
        ({"partition": "static"}, "partition=adaptive, got label_free and static"),
        ({"adapter": 0}, "adapter: expected 1 or more, got 0"),
        ({"head": "rows"}, "did you mean 'row'"),
    ],
)
def test_settings_that_cannot_be_used_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        ScopleSettings(**settings)
