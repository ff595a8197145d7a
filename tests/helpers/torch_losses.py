"""Losses of zero-shot methods against functions of torch tensors: values and all gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot.base import ClassText, Shapes, unit

B, S, N, C, D = 6, 2, 5, 4, 7
LABELS = np.array([0, 1, 2, 3, 0, 2])
STEP = 3 * 1700 + 1600  # of the fourth cycle: all terms of an annealed loss are on
KEY = jax.random.key(3)


def check(module, settings, reference, text="text", step=STEP):
    """Checks a method of one vector for each clip.

    Args:
      reference: `(params, clips [B, N], text [C, D], words [C, 2, D], labels [B]) -> scalar`.
      text: "words" for a method with verbs and nouns.
    """
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    rows = unit(jnp.asarray(rng.normal(size=(C, 8, D)), jnp.float32))
    words = np.array(unit(jnp.asarray(rng.normal(size=(C, 2, D)), jnp.float32)))
    words[1, 0] = words[0, 0]  # two classes with the same verb
    words[2, 1] = 0  # a noun that the text encoder does not know
    described = ClassText(rows, words=jnp.asarray(words)) if text == "words" else rows
    clips = np.asarray(tokens, np.float64).mean(axis=1)
    clips = (clips - clips.mean(axis=0)) / (clips.std(axis=0) + 1e-3)
    given = [doubles(array) for array in (clips, rows[:, 0], words)]
    compare(
        module.make(settings, Shapes(KINECT_V1, (1, S, N), D)),
        tokens,
        described,
        step,
        lambda params: reference(params, *given, torch.tensor(LABELS)),
    )


def check_cube(module, settings, reference):
    """Checks a method of tokens `[B, T', V, n]`; text has a width of 8.

    Args:
      reference: `(params, clips [B, T', V, n], text [C, G, 8], labels [B]) -> scalar`.
    """
    rng = np.random.default_rng(0)
    joints = KINECT_V1.num_joints
    tokens = rng.normal(size=(B, 3 * joints, N)).astype(np.float32)
    text = unit(jnp.asarray(rng.normal(size=(C, 8, 8)), jnp.float32))
    mean, std = tokens.reshape(-1, N).mean(axis=0), tokens.reshape(-1, N).std(axis=0) + 1e-3
    cube = doubles(((tokens - mean) / std).reshape(B, 3, joints, N))
    compare(
        module.make(settings, Shapes(KINECT_V1, (3, joints, N), 8)),
        jnp.asarray(tokens),
        text,
        0,
        lambda params: reference(params, cube, doubles(text), torch.tensor(LABELS)),
    )


def compare(method, tokens, text, step: int, reference: Callable):
    """Compares loss and gradients with `reference`, a function of the parameters in torch."""
    variables = method.init(jax.random.key(1), tokens, text)
    rng = np.random.default_rng(1)  # biases are random, too

    def moved(leaf):
        return leaf + jnp.asarray(0.1 * rng.normal(size=leaf.shape), jnp.float32)

    params = jax.tree.map(moved, variables["params"])

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        both = {**variables, "params": params}
        return method.loss(both, (tokens, jnp.asarray(LABELS)), text, KEY, jnp.int32(step))

    value, grads = loss(params)
    as_torch = jax.tree.map(lambda leaf: doubles(leaf).requires_grad_(), params)
    expected = reference(as_torch)
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-4)
    for (path, grad), tensor in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(as_torch), strict=True
    ):
        want = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(grad, want, rtol=2e-3, atol=2e-5, err_msg=str(path))


def doubles(array) -> torch.Tensor:
    """A copy as a tensor of doubles."""
    return torch.tensor(np.array(array, np.float64))


def linear(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def layers_of(network):
    return [network[f"layer{number}"] for number in range(len(network))]


def two_layers(network, x):
    """A hidden layer with ReLU, and a linear one."""
    first, second = layers_of(network)
    return linear(second, torch.relu(linear(first, x)))
