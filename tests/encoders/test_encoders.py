"""Shift-GCN and the wrapper: shifts against loops, gradients, absent persons, any V."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.encoders.base import SkeletonEncoder, token_shape
from dynapurls_jax.encoders.batch_norm import BatchNorm, BatchStatistics
from dynapurls_jax.encoders.masking import capacity_for, clip_lengths, segment_weights
from dynapurls_jax.encoders.shift_gcn import ENTRY, LAYERS, ShiftGCN, ShiftGcnSettings
from dynapurls_jax.encoders.shifts import spatial_shift, temporal_shift
from dynapurls_jax.training.classifiers import Classifier
from tests.helpers.trained import TWO_LAYERS


def small_encoder(width=4, layers=TWO_LAYERS, **options) -> SkeletonEncoder:
    """A Shift-GCN of two layers."""
    return SkeletonEncoder(ShiftGCN(width, layers, **options))


def small_classifier(width=4, layers=TWO_LAYERS, **options) -> Classifier:
    """`small_encoder` with a classifier of four classes."""
    return Classifier(small_encoder(width, layers, **options), 4)


def init(module, clips):
    """Random variables of a module."""
    return jax.jit(module.init)(jax.random.key(1), clips)


def tokens_of(module, variables, clips, capacity=None):
    """Tokens, compiled."""

    @partial(jax.jit, static_argnums=2)
    def run(variables, clips, capacity):
        return module.apply(variables, clips, capacity, method="tokens")

    return run(variables, clips, capacity)


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

    def shifted(values, sign):  # channels first, persons last, as the encoder lays features out
        return spatial_shift(jnp.asarray(values.transpose(3, 1, 2, 0)), sign).transpose(3, 1, 2, 0)

    np.testing.assert_array_equal(shifted(last, 1), forth.reshape(last.shape))
    np.testing.assert_array_equal(shifted(last, -1), back.reshape(last.shape))
    np.testing.assert_array_equal(shifted(np.asarray(shifted(last, 1)), -1), last)


# Displacements of three channels, a stride, and a seed for everything else.
DISPLACED = (
    st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3),
    st.sampled_from([1, 2]),
    st.integers(0, 50),
)


@given(*DISPLACED)
def test_temporal_shift_interpolates_and_reads_zero_outside(displacement, stride, seed):
    frames, channels = 6, len(displacement)
    x = np.random.default_rng(seed).normal(size=(channels, frames, 2, 1)).astype(np.float32)
    got = shift_once_compiled(jnp.asarray(x), jnp.asarray(displacement, jnp.float32), stride)
    assert got.shape == (channels, frames // stride, 2, 1)
    padded = np.pad(x, ((0, 0), (12, 12), (0, 0), (0, 0)))
    for t in range(frames // stride):
        for c, d in enumerate(displacement):
            position = stride * t + 0.5 * (stride - 1) + d
            low = int(np.floor(position))
            share = position - low
            expected = (1 - share) * padded[c, 12 + low] + share * padded[c, 13 + low]
            np.testing.assert_allclose(got[c, t], expected, atol=1e-5)


shift_once_compiled = jax.jit(temporal_shift, static_argnums=2)


@partial(jax.jit, static_argnums=(0, 4))
def gradients(function, x, where, g, stride):
    return jax.vjp(lambda x, where: function(x, where, stride), x, where)[1](g)


def interpolation(x, where, stride):
    """The temporal shift as a dense matrix for each channel, for JAX to differentiate."""
    frames = jnp.arange(x.shape[1])
    place = where[:, None] + stride * jnp.arange(x.shape[1] // stride) + 0.5 * (stride - 1)
    weight = jax.nn.relu(1 - jnp.abs(place[..., None] - frames))
    return jnp.einsum("cst,ctvn->csvn", weight, x)


@given(*DISPLACED)
def test_temporal_shift_gradients_equal_those_of_a_matrix(displacement, stride, seed):
    where = jnp.asarray(displacement, jnp.float32)
    # Exactly on a frame, the interpolation has only one-sided derivatives.
    where = jnp.where(jnp.abs(where * 2 - jnp.round(where * 2)) < 1e-3, where + 0.1, where)
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(len(displacement), 8, 3, 2)), jnp.float32)
    g = jnp.asarray(rng.normal(size=(len(displacement), 8 // stride, 3, 2)), jnp.float32)
    got = gradients(temporal_shift, x, where, g, stride)
    expected = gradients(interpolation, x, where, g, stride)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(got[1], expected[1], atol=1e-4)


def test_spatial_shift_gradient_is_the_shift_back():
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.normal(size=(7, 3, 5, 2)), jnp.float32) for _ in range(2))
    (got,) = jax.vjp(lambda x: spatial_shift(x, 1), x)[1](g)
    np.testing.assert_array_equal(got, spatial_shift(g, -1))
    assert float(jnp.sum(got * x)) == pytest.approx(float(jnp.sum(g * spatial_shift(x, 1))), 1e-4)


@pytest.mark.parametrize("per_joint", [False, True])
def test_norm_statistics_ignore_absent_persons(per_joint):
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(3, 5, 2, 4)).astype(np.float32)  # [channels, T, V, N]
    x[..., 2] = 1e6
    kept, mask = x[..., [0, 1, 3]], jnp.array([True, True, False, True])
    batch = BatchStatistics.of(mask).moments(jnp.asarray(x), per_joint)
    axes = (1, 3) if per_joint else (1, 2, 3)
    np.testing.assert_allclose(batch[0], kept.mean(axes), atol=1e-4)
    np.testing.assert_allclose(batch[1], kept.var(axes), rtol=1e-4)
    norm = BatchNorm(per_joint)
    variables = norm.init(jax.random.key(0), jnp.asarray(x), None)
    y, updated = norm.apply(variables, jnp.asarray(x), batch, mutable=["batch_stats"])
    expected = (kept - kept.mean(axes, keepdims=True)) / kept.std(axes, keepdims=True)
    np.testing.assert_allclose(y[..., [0, 1, 3]], expected, atol=1e-3)
    # Kept joint by joint, each joint's channels side by side.
    mean = kept.mean(axes).T.reshape(-1)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * mean, atol=1e-4)


@pytest.mark.parametrize(("joints", "persons"), [(20, 1), (25, 2)])
def test_encoder_takes_any_number_of_joints(joints, persons):
    encoder = small_encoder()
    clips = jax.random.normal(jax.random.key(0), (3, persons, 16, joints, 3))
    variables = jax.jit(partial(encoder.init, method="tokens"))(jax.random.key(1), clips)
    assert tokens_of(encoder, variables, clips).shape == (3, 3, joints, 8)
    assert token_shape(encoder, clips.shape[1:]) == (3, joints, 8)


def test_token_shape_of_the_published_network():
    encoder = ENTRY.make(ShiftGcnSettings(), KINECT_V2)
    assert len(encoder.backbone.layers) == len(LAYERS) == 10
    assert token_shape(encoder, (2, 32, 25, 3)) == (3, 25, 256)


def test_invalid_settings_are_errors():
    with pytest.raises(ValueError, match="expected pairs of a width multiple"):
        ShiftGcnSettings(layers=((1, 3),))
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        ShiftGcnSettings(dtype="float23")
    with pytest.raises(ValueError, match="width: expected 1 or more, got 0"):
        ShiftGcnSettings(width=0)


def test_absent_second_person_changes_nothing():
    """Tokens are the mean over present persons: the same for one person and for two equal ones."""
    encoder = small_classifier()
    one = jax.random.normal(jax.random.key(0), (2, 1, 16, 20, 3))
    alone = jnp.concatenate([one, jnp.zeros_like(one)], axis=1)
    twins = jnp.concatenate([one, one], axis=1)
    variables = init(encoder, alone)
    params = {k: leaf for k, leaf in variables["params"].items() if k != "classifier"}
    of_tokens = {**variables, "params": params}
    np.testing.assert_allclose(
        tokens_of(encoder.encoder, of_tokens, alone),
        tokens_of(encoder.encoder, of_tokens, twins),
        atol=1e-4,
    )
    assert np.isfinite(jax.jit(encoder.apply)(variables, jnp.zeros_like(alone))).all()


def test_frames_must_fit_the_strides():
    with pytest.raises(ValueError, match="divisible by 4"):
        small_classifier().init(jax.random.key(0), jnp.ones((1, 1, 15, 20, 3)))


def test_padded_frames_are_excluded_from_means():
    """Pooled features are the mean of the tokens if all segments have as many frames."""
    encoder = small_encoder()
    clips = jax.random.normal(jax.random.key(0), (2, 1, 24, 5, 3)).at[:, :, 12:].set(0)
    variables = jax.jit(partial(encoder.init, method="pooled"))(jax.random.key(1), clips)
    pooled = jax.jit(partial(encoder.apply, method="pooled"))(variables, clips)
    tokens = tokens_of(encoder, variables, clips)
    np.testing.assert_allclose(pooled, tokens.mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.slow
def test_packing_of_present_persons_does_not_change_results():
    """Outputs, statistics and gradients with a capacity equal those without."""
    classifier = small_classifier()
    clips = jax.random.normal(jax.random.key(0), (6, 2, 8, 5, 3))
    clips = clips.at[jnp.array([0, 2, 3, 5]), 1].set(0)  # 8 of 12 persons are present
    assert capacity_for(np.array([1, 2, 1, 1, 2, 1]), 2) == 8
    variables = init(classifier, clips)

    @partial(jax.jit, static_argnums=1)
    def train(params, capacity):
        def loss(params):
            both = {**variables, "params": params}
            out, updated = classifier.apply(both, clips, True, capacity, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(out)), (out, updated)

        return jax.value_and_grad(loss, has_aux=True)(params)

    whole, packed = (train(variables["params"], capacity) for capacity in (None, 8))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), packed, whole)
    del variables["params"]["classifier"]
    encoder = classifier.encoder
    every = tokens_of(encoder, variables, clips)
    np.testing.assert_allclose(tokens_of(encoder, variables, clips, 8), every, atol=1e-5)
    assert np.isnan(tokens_of(encoder, variables, clips, 7)).all()  # too small


def test_capacity_has_few_values_and_holds_all_persons():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        persons = 1 + (rng.random(32) < rng.random())
        capacity = capacity_for(persons, 2)
        assert persons.sum() <= capacity <= 64
        assert persons.reshape(4, 8).sum(axis=1).max() <= capacity_for(persons, 2, 4) <= 16
        seen.add(capacity)
    assert len(seen) <= 8
    assert capacity_for(np.zeros(3, int), 1) == 1


@given(st.integers(1, 40), st.integers(1, 5))
def test_segments_divide_the_true_length(length, segments):
    weights = segment_weights(jnp.array([float(length)]), segments, 40)[0]
    for s, weight in enumerate(np.asarray(weights)):
        window = np.zeros(40)
        # As in adaptive average pooling: integers, so no rounding.
        window[s * length // segments : -(-(s + 1) * length // segments)] = 1
        np.testing.assert_allclose(weight, window / window.sum(), atol=1e-6)


def test_the_length_of_a_clip_excludes_padding():
    clips = np.ones((3, 2, 12, 4, 3), np.float32)
    clips[0, :, 9:] = 0
    clips[1, 1, 5:] = 0
    clips[2] = 0
    np.testing.assert_array_equal(clip_lengths(jnp.asarray(clips)), [9, 12, 12])


@pytest.mark.slow
def test_rematerialisation_does_not_change_the_gradient():
    clips = jax.random.normal(jax.random.key(0), (2, 1, 8, 5, 3))
    variables = init(small_classifier(), clips)

    @partial(jax.jit, static_argnums=0)
    def grads(remat):
        def loss(params):
            both = {**variables, "params": params}
            classifier = small_classifier(remat=remat)
            out, _ = classifier.apply(both, clips, True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(out))

        return jax.grad(loss)(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), grads(True), grads(False)
    )


@pytest.mark.parametrize("layers", [TWO_LAYERS, pytest.param(LAYERS, marks=pytest.mark.slow)])
def test_bfloat16_features_are_close_to_float32(layers):
    clips = jax.random.normal(jax.random.key(0), (2, 1, 16, 5, 3))
    wide, narrow = (small_encoder(8, layers, dtype=d) for d in (jnp.float32, jnp.bfloat16))
    variables = jax.jit(partial(wide.init, method="pooled"))(jax.random.key(1), clips)
    assert jax.tree.leaves(variables)[0].dtype == jnp.float32
    a, b = (jax.jit(partial(e.apply, method="pooled"))(variables, clips) for e in (wide, narrow))
    assert b.dtype == jnp.float32
    assert 0 < float(jnp.abs(a - b).max()) < 0.05 * float(jnp.abs(a).max())
