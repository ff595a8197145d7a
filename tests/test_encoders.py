"""Shift-GCN: the shifts against loops, gradients, presence of persons, any V."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynapurls_jax.encoders.shift_gcn import Norm, ShiftGCN, token_width
from dynapurls_jax.encoders.shifts import spatial_shift, temporal_shift


def test_spatial_shift_reads_the_published_permutation():
    v, c = 5, 7
    last = np.random.default_rng(0).normal(size=(2, 3, v, c)).astype(np.float32)
    flat = last.reshape(2, 3, v * c)
    forth = np.empty_like(flat)
    back = np.empty_like(flat)
    for i in range(v):  # the index arithmetic of the paper's released code, as a formula
        for j in range(c):
            forth[..., i * c + j] = flat[..., (i * c + j + j * c) % (c * v)]
            back[..., i * c + j] = flat[..., (i * c + j - j * c) % (c * v)]

    def shifted(values, sign):  # channels first, time next, as the encoder lays features out
        return spatial_shift(jnp.asarray(values.transpose(3, 1, 0, 2)), sign).transpose(2, 1, 3, 0)

    np.testing.assert_array_equal(shifted(last, 1), forth.reshape(last.shape))
    np.testing.assert_array_equal(shifted(last, -1), back.reshape(last.shape))
    np.testing.assert_array_equal(shifted(np.asarray(shifted(last, 1)), -1), last)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=4),
    st.sampled_from([1, 2]),
    st.integers(0, 50),
)
def test_temporal_shift_interpolates_and_reads_zero_outside(displacement, stride, seed):
    frames, channels = 6, len(displacement)
    x = np.random.default_rng(seed).normal(size=(channels, frames, 1, 2)).astype(np.float32)
    got = temporal_shift(jnp.asarray(x), jnp.asarray(displacement, jnp.float32), stride)
    assert got.shape == (channels, frames // stride, 1, 2)
    padded = np.pad(x, ((0, 0), (12, 12), (0, 0), (0, 0)))
    for t in range(frames // stride):
        for c, d in enumerate(displacement):
            position = stride * t + 0.5 * (stride - 1) + d
            low = int(np.floor(position))
            share = position - low
            expected = (1 - share) * padded[c, 12 + low] + share * padded[c, 13 + low]
            np.testing.assert_allclose(got[c, t], expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_temporal_shift_gradients_equal_finite_differences(stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 8, 1, 2)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(3, 8 // stride, 1, 2)), jnp.float32)
    where = jnp.array([0.3, -1.4, 2.2])

    def value(x, where):
        return jnp.sum(weight * temporal_shift(x, where, stride))

    dx, dwhere = jax.grad(value, argnums=(0, 1))(x, where)
    for c in range(3):
        step = 0.01 * jax.nn.one_hot(c, 3)
        difference = (value(x, where + step) - value(x, where - step)) / 0.02
        assert float(dwhere[c]) == pytest.approx(float(difference), abs=2e-3)
    direction = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    assert float(jnp.sum(dx * direction)) == pytest.approx(
        float(value(x + direction, where) - value(x, where)), abs=1e-3
    )


def test_norm_statistics_ignore_absent_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(3, 5, 4, 2)).astype(np.float32)
    x[:, :, 2] = 1e6
    x = jnp.asarray(x)
    mask = jnp.array([True, True, False, True])
    norm = Norm()
    variables = norm.init(jax.random.key(0), x, mask, False)
    y, updated = norm.apply(variables, x, mask, True, mutable=["batch_stats"])
    kept = np.asarray(x)[:, :, [0, 1, 3]].reshape(3, -1)
    expected = (x[:, :, 0] - kept.mean(1)[:, None, None]) / np.sqrt(kept.var(1) + 1e-5)[
        :, None, None
    ]
    np.testing.assert_allclose(y[:, :, 0], expected, atol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * kept.mean(1), atol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * kept.var(1), atol=1e-3)


@pytest.mark.parametrize(("joints", "persons"), [(20, 1), (25, 2)])
def test_encoder_takes_any_number_of_joints(joints, persons):
    encoder = ShiftGCN(num_classes=6, width=8)
    clips = jax.random.normal(jax.random.key(0), (3, persons, 16, joints, 3))
    variables = encoder.init(jax.random.key(1), clips)
    assert encoder.apply(variables, clips).shape == (3, 6)
    tokens = encoder.apply(variables, clips, method="tokens")
    assert tokens.shape == (3, 3, joints, token_width(8))


def test_absent_second_person_changes_nothing():
    """Tokens are the mean over present persons, so a twin and an absent person give the same."""
    encoder = ShiftGCN(num_classes=4, width=8)
    one = jax.random.normal(jax.random.key(0), (2, 1, 16, 20, 3))
    alone = jnp.concatenate([one, jnp.zeros_like(one)], axis=1)
    twins = jnp.concatenate([one, one], axis=1)
    variables = encoder.init(jax.random.key(1), alone)
    np.testing.assert_allclose(
        encoder.apply(variables, alone, method="tokens"),
        encoder.apply(variables, twins, method="tokens"),
        atol=1e-4,
    )
    assert np.isfinite(encoder.apply(variables, jnp.zeros_like(alone))).all()


def test_frames_must_fit_the_strides():
    encoder = ShiftGCN(num_classes=4, width=8)
    with pytest.raises(ValueError, match="divisible by 4"):
        encoder.init(jax.random.key(0), jnp.ones((1, 1, 15, 20, 3)))
