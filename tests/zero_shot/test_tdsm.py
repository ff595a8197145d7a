"""TDSM: the loss and all gradients against PyTorch, the published size, and what it can learn."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import tdsm
from dynapurls_jax.zero_shot.base import Shapes, unit

B, S, N, C, D = 8, 2, 5, 4, 7
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])
SHAPES = Shapes(KINECT_V1, (1, S, N), D)
KEY = jax.random.key(3)


@cache
def setup(**settings):
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(C, 8, D)), jnp.float32))
    method = tdsm.make(tdsm.TdsmSettings(**settings), SHAPES)
    return method, jax.jit(method.init)(jax.random.key(1), tokens, text), tokens, text


def everywhere(params):
    """Parameters without zeros."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: np.float32(leaf + 0.1 * rng.normal(size=leaf.shape)), jax.device_get(params)
    )


def linear(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def network(layers, x, activation):
    return linear(layers["layer1"], activation(linear(layers["layer0"], x)))


def modulate(x, shift, scale):
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def gelu(x):
    return functional.gelu(x, approximate="tanh")


def transformer(p, heads, x, time, text):
    """Clips `[B, D]` at times `[B]` with texts `[B, G, d]`."""
    text = text * np.sqrt(D)
    rates = torch.tensor([10_000 ** (-k / 128) for k in range(128)], dtype=torch.float64)
    angles = time[:, None] * rates
    silu = functional.silu
    c = network(p["time"], torch.cat([angles.cos(), angles.sin()], -1), silu)
    c = silu(c + network(p["global"], text[:, 0], silu))[:, None]
    tokens = {"clip": linear(p["clip"], x)[:, None]}
    tokens["text"] = linear(p["text"], text) + p["position"]
    for number in range(len(p["blocks"]["clip"]["modulation"]["bias"])):
        block = jax.tree.map(lambda leaf, number=number: leaf[number], p["blocks"])
        six = {name: linear(block[name]["modulation"], c).chunk(6, -1) for name in tokens}
        qkv = [
            linear(block[name]["attention"], modulate(x, *six[name][:2])).chunk(3, -1)
            for name, x in tokens.items()
        ]
        q, k, v = (
            torch.cat(part, 1).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in zip(*qkv, strict=True)
        )
        out = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        for name, part in (("clip", out[:, :1]), ("text", out[:, 1:])):
            gates, layers, x = six[name], block[name], tokens[name]
            x = x + gates[2] * linear(layers["gathered"], part)
            inner = network(layers["network"], modulate(x, *gates[3:5]), gelu)
            tokens[name] = x + gates[5] * inner
    last = modulate(tokens["clip"], *linear(p["modulation"], c).chunk(2, -1))
    return linear(p["output"], last)[:, 0]


def clips_of(tokens):
    clips = np.asarray(tokens, np.float64).mean(axis=1)
    return torch.tensor((clips - clips.mean(axis=0)) / (clips.std(axis=0) + 1e-3))


def errors(p, x, time, noise, text):
    """The mean squared error of each clip."""
    betas = np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 50) ** 2
    kept = torch.tensor([np.prod(1 - betas[: t + 1]) for t in time.tolist()])[:, None]
    noisy = kept.sqrt() * x + (1 - kept).sqrt() * noise
    return ((transformer(p, 2, noisy, time, text) - noise) ** 2).mean(-1)


def doubles(tree):
    def convert(leaf):
        return torch.tensor(np.array(leaf, np.float64), requires_grad=True)

    return jax.tree.map(convert, tree)


@pytest.mark.slow
def test_the_loss_and_its_gradients_are_those_of_torch():
    method, variables, tokens, text = setup(hidden=8, depth=2, heads=2)
    params = everywhere(variables["params"])

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        batch = tokens, jnp.asarray(LABELS)
        return method.loss({**variables, "params": params}, batch, text, KEY, jnp.int32(0))

    value, grads = loss(params)
    p, clips, texts = doubles(params), clips_of(tokens), torch.tensor(np.array(text, np.float64))
    keys = jax.random.split(KEY, 3)
    times = torch.tensor(np.array(jax.random.randint(keys[0], (B,), 0, 50)))
    noises = torch.tensor(np.array(jax.random.normal(keys[1], (B, N)), np.float64))
    others = np.array(jax.random.randint(keys[2], (B,), 0, C))
    assert 0 < (others != LABELS).sum() < B
    expected = errors(p, clips, times, noises, texts[LABELS]).mean()
    for b in np.flatnonzero(others != LABELS):
        one = slice(b, b + 1)
        given = p, clips[one], times[one], noises[one]
        own, against = (errors(*given, texts[y[one]]).sum() for y in (LABELS, others))
        expected = expected + torch.clamp(own - against + 1, min=0) / B
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-4)
    for (path, grad), tensor in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(p), strict=True
    ):
        want = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(grad, want, rtol=2e-3, atol=2e-5, err_msg=str(path))


@pytest.mark.slow
def test_a_score_is_minus_the_error_summed_over_the_fixed_noises():
    method, variables, tokens, text = setup(hidden=8, depth=2, heads=2, scale=2.0)
    variables = {**variables, "params": everywhere(variables["params"])}
    found = scores_of(method, variables, tokens, text)
    p, clips = doubles(variables["params"]), clips_of(tokens)
    noises = torch.tensor(np.array(variables["noises"], np.float64))
    assert len(noises) == 3
    time = torch.full((B,), 25)
    expected = np.zeros((B, C))
    for c, described in enumerate(text):
        described = torch.tensor(np.array(described, np.float64)).expand(B, -1, -1)
        for noise in noises:
            expected[:, c] -= 2 * errors(p, clips, time, noise, described).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    alone = scores_of(method, variables, tokens[:1], text[1:2])
    np.testing.assert_allclose(alone, found[:1, 1:2], rtol=1e-5)


def scores_of(method, variables, tokens, text):
    @jax.jit
    def run(variables):
        features = method.encode(variables, tokens)
        return method.score(variables, features, method.bind(variables, text))

    return run(variables)


def test_the_noise_is_the_published_one():
    assert tdsm.KEPT[25] == pytest.approx(0.934, abs=5e-4)
    assert tdsm.KEPT[49] == pytest.approx(0.764, abs=5e-4)


@pytest.mark.parametrize(
    ("settings", "rows", "d", "count"),
    [
        ({"hidden": 768, "depth": 12, "heads": 12}, 35, 2048, 261_208_576),  # the published 261.2 M
        ({}, 8, 512, 5_826_304),
    ],
)
def test_the_number_of_parameters(settings, rows, d, count):
    init = tdsm.make(tdsm.TdsmSettings(**settings), SHAPES).init
    tokens = jax.ShapeDtypeStruct((4, 1, 256), np.float32)
    text = jax.ShapeDtypeStruct((3, rows, d), np.float32)
    params = jax.eval_shape(init, jax.random.key(0), tokens, text)["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


@pytest.mark.slow
def test_it_learns_eight_clips_of_four_classes():
    method, variables, tokens, text = setup(hidden=16, depth=1, heads=2)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def train(params):
        def step(carry, number):
            def loss(params):
                both, batch = {**variables, "params": params}, (tokens, jnp.asarray(LABELS))
                return method.loss(both, batch, text, jax.random.fold_in(KEY, number), number)

            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(300))[0][0]

    learned = {**variables, "params": train(variables["params"])}
    found = scores_of(method, learned, tokens, text)
    np.testing.assert_array_equal(found.argmax(axis=-1), LABELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "means"}, "did you mean 'mean'"),
        ({"heads": 5}, "heads: expected a divisor of 192, got 5"),
        ({"time": 50}, "time: expected less than 50, got 50"),
        ({"noises": 0}, "noises: expected 1 or more, got 0"),
    ],
)
def test_settings_that_cannot_be_used_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        tdsm.TdsmSettings(**settings)
