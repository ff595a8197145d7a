"""Shift-GCN against PyTorch, layer by layer: outputs, gradients and running statistics."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.batch_norm import BatchStatistics
from dynapurls_jax.encoders.convert_shift_gcn import from_state_dict, to_state_dict
from dynapurls_jax.encoders.shift_gcn import LAYERS, ShiftBlock, ShiftGCN
from dynapurls_jax.training.classifiers import Classifier
from dynapurls_jax.training.optimizers import PretrainSettings, sgd

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
import torch

from tests.helpers.cases import slow
from tests.helpers.torch_shift_gcn import Layer, TorchShiftGCN

CLASSES, WIDTH, JOINTS = 5, 8, 6


@pytest.fixture(scope="module")
def network():
    """A small network in which no parameter or statistic has its initial value."""
    torch.manual_seed(0)
    model = TorchShiftGCN(CLASSES, WIDTH, JOINTS)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
            elif "running_mean" in name or (tensor.ndim == 1 and tensor.dtype == torch.float32):
                tensor.normal_()
    return model


def converted(model):
    # Copies: JAX may share the memory of PyTorch, which updates its statistics in place.
    state = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    return jax.tree.map(jnp.asarray, from_state_dict(state))


def published(width):
    return Classifier(SkeletonEncoder(ShiftGCN(width), count_absent=True), CLASSES)


def clips_for_both(clips=4, frames=16):
    array = np.random.default_rng(1).normal(size=(clips, 2, frames, JOINTS, 3))
    array = array.astype(np.float32)
    return jnp.asarray(array), torch.from_numpy(array.transpose(0, 4, 2, 3, 1).copy())


KINDS = (0, 1, 4)  # one layer of each kind: without a residual, with one, wider with a stride


@pytest.mark.parametrize("train", [slow(False), True])
@pytest.mark.parametrize("indices", [KINDS, slow(range(10))])
def test_outputs_and_gradients_of_each_layer_equal_pytorch(network, train, indices):
    variables = converted(network)
    for index in indices:
        multiple, stride = LAYERS[index]
        before = WIDTH * LAYERS[index - 1][0] if index else 3
        layer: Layer = getattr(network, f"l{index + 1}").train(train)
        rng = np.random.default_rng(index)
        x = rng.normal(size=(3, before, 8, JOINTS)).astype(np.float32)
        own = {kind: tree[f"layers_{index}"] for kind, tree in variables.items()}
        block = ShiftBlock(WIDTH * multiple, stride, index > 0)
        persons = BatchStatistics.of(jnp.ones(3, bool)) if train else None

        @jax.jit
        def pulled(params, x, g, block=block, own=own, persons=persons):
            def apply(params, x):
                variables = {**own, "params": params}
                return block.apply(variables, x, persons, mutable=["batch_stats"])[0]

            out, pull = jax.vjp(apply, params, x)
            return out, *pull(g)

        leaf = torch.from_numpy(x).requires_grad_()
        expected = layer(leaf)
        g = rng.normal(size=expected.shape).astype(np.float32)
        layer.zero_grad()
        expected.backward(torch.from_numpy(g))
        arrays = (jnp.asarray(a.transpose(1, 2, 3, 0)) for a in (x, g))
        got, params, dx = pulled(own["params"], *arrays)
        np.testing.assert_allclose(
            np.asarray(got).transpose(3, 0, 1, 2), expected.detach(), atol=2e-4, err_msg=str(index)
        )
        np.testing.assert_allclose(
            np.asarray(dx).transpose(3, 0, 1, 2), leaf.grad, atol=2e-3, err_msg=str(index)
        )
        temporal = layer.tcn1
        for name, tensor, ours in (
            ("shift_in", temporal.shift_in.ypos, params["temporal"]["shift_in"]),
            ("shift_out", temporal.shift_out.ypos, params["temporal"]["shift_out"]),
            ("mask", layer.gcn1.Feature_Mask[0], params["spatial"]["feature_mask"]),
        ):
            grad = layer.gcn1.Feature_Mask.grad[0] if name == "mask" else tensor.grad
            np.testing.assert_allclose(ours, grad, rtol=2e-3, atol=5e-3, err_msg=f"{index} {name}")


def test_the_network_and_its_running_statistics_equal_pytorch(network):
    variables = converted(network)
    ours, theirs = clips_for_both()
    encoder = published(WIDTH)
    with torch.no_grad():
        np.testing.assert_allclose(
            jax.jit(encoder.apply)(variables, ours), network.eval()(theirs), atol=1e-4
        )
        expected = network.train()(theirs)
    train = jax.jit(partial(encoder.apply, train=True, mutable=["batch_stats"]))
    got, updated = train(variables, ours)
    np.testing.assert_allclose(got, expected, atol=1e-3)
    state = to_state_dict(variables | updated)
    for name, tensor in network.state_dict().items():
        if "running_mean" in name:
            np.testing.assert_allclose(state[name], tensor, atol=1e-4, err_msg=name)
        elif "running_var" in name:  # PyTorch's have Bessel's correction, count / (count - 1)
            np.testing.assert_allclose(state[name], tensor, rtol=2e-2, err_msg=name)


@pytest.mark.slow
def test_the_state_dict_loads_into_pytorch(network):
    ours, theirs = clips_for_both(2, 8)
    encoder = published(WIDTH)
    variables = jax.jit(encoder.init)(jax.random.key(3), ours)
    model = TorchShiftGCN(CLASSES, WIDTH, JOINTS)
    state = {name: torch.from_numpy(a.copy()) for name, a in to_state_dict(variables).items()}
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        got = jax.jit(encoder.apply)(variables, ours)
        np.testing.assert_allclose(got, model.eval()(theirs), atol=1e-4)


def test_the_published_optimizer_equals_pytorch():
    """SGD with Nesterov momentum, decay and steps after 60, 80 and 100 of 140 epochs."""
    settings = PretrainSettings(epochs=14, learning_rate=0.1, weight_decay=1e-2)
    start = np.random.default_rng(0).normal(size=3).astype(np.float32)
    theirs = torch.nn.Parameter(torch.tensor(start))
    peer = torch.optim.SGD([theirs], 0.1, momentum=0.9, weight_decay=1e-2, nesterov=True)
    rates = torch.optim.lr_scheduler.MultiStepLR(peer, [6 * 2, 8 * 2, 10 * 2], gamma=0.1)
    optimizer = sgd(settings, steps_per_epoch=2)
    ours, state = jnp.asarray(start), optimizer.init(jnp.asarray(start))
    for step in range(2 * settings.epochs):
        updates, state = optimizer.update(jnp.sin(ours + step), state, ours)
        ours = optax.apply_updates(ours, updates)
        theirs.grad = torch.sin(theirs.detach() + step)
        peer.step()
        rates.step()
        np.testing.assert_allclose(ours, theirs.detach(), atol=1e-5, err_msg=f"step {step}")
