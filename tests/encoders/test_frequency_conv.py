"""Convolutions over frames at frequencies: exact, and used where they have fewer products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynapurls_jax.encoders.frequency_conv import _matrices, _points
from dynapurls_jax.encoders.jit import compiling_for
from dynapurls_jax.encoders.products import TemporalConv


@given(
    frames=st.integers(1, 40),
    half=st.integers(0, 6),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 4),
    seed=st.integers(0, 100),
)
def test_points_make_a_convolution(frames, half, stride, dilation, seed):
    rng, size = np.random.default_rng(seed), 2 * half + 1
    x, taps = rng.normal(size=frames), rng.normal(size=size)
    of_frames, of_taps, of_result = _matrices(frames, size, stride, dilation)
    assert len(of_frames) == _points(frames + dilation * half)
    y = of_result.T @ ((of_taps @ taps) * (of_frames @ x))
    padded = np.pad(x, dilation * half)
    expected = sum(tap * padded[dilation * k :][:frames] for k, tap in enumerate(taps))
    np.testing.assert_allclose(y, expected[::stride], atol=1e-12)


def convolution(frames, stride=1, dilation=1, dtype=np.float64, sizes=(9, 48, 40)):
    """The layer, its parameters, its input, and weights of the elements of the result."""
    rng, (size, c, d) = np.random.default_rng(0), sizes
    arrays = rng.normal(size=(size, c, d)), rng.normal(size=d), rng.normal(size=(2, 4, frames, c))
    kernel, bias, x = (jnp.asarray(array, dtype) for array in arrays)
    weights = rng.normal(size=(2, 4, -(-frames // stride), d))
    return TemporalConv(d, size, stride, dilation), {"kernel": kernel, "bias": bias}, x, weights


def has_convolution(layer, params, x):
    """Whether XLA's convolution is used."""
    return "conv_general_dilated" in str(jax.make_jaxpr(layer.apply)({"params": params}, x))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("frames", [6, 20, 200])  # shorter than the kernel; and of both methods
def test_values_and_gradients_equal_pytorch(frames, stride, dilation):
    layer, params, x, weights = convolution(frames, stride, dilation)
    assert has_convolution(layer, params, x) == (frames == 200)

    def loss(x, params):
        y = layer.apply({"params": params}, x)
        return (y * weights).sum(), y

    (dx, grads), y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, params)
    t = torch.tensor(np.array(x)).permute(0, 1, 3, 2).reshape(8, 48, frames).requires_grad_()
    k = torch.tensor(np.array(params["kernel"]).transpose(2, 1, 0)).requires_grad_()
    bias = torch.tensor(np.array(params["bias"]))
    z = torch.nn.functional.conv1d(t, k, bias, stride, 4 * dilation, dilation)
    expected = z.mT.reshape(2, 4, -1, 40)
    (expected * torch.tensor(weights)).sum().backward()
    dx, dk = dx.reshape(8, frames, 48).mT, grads["kernel"].transpose(2, 1, 0)
    own = y, dx, dk
    for one, other in zip(own, (expected.detach(), t.grad, k.grad), strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-12, atol=1e-10)


def test_other_platforms_keep_the_convolution():
    layer, params, x, _ = convolution(20, dtype=np.float32)
    assert not has_convolution(layer, params, x)
    for name in ("gpu", "tpu"):
        with compiling_for(name):
            assert has_convolution(layer, params, x)


def test_bfloat16_is_computed_in_float32():
    layer, params, x, _ = convolution(20, dtype=jnp.bfloat16)
    y = layer.apply({"params": params}, x)
    assert y.dtype == jnp.bfloat16
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    expected = layer.apply({"params": exact}, x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=0.02, atol=0.1)
