"""The kinematic statistics against NumPy, and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.encoders.base import token_shape, trained_encoder
from dynapurls_jax.encoders.kinematics import ENTRY, KinematicsSettings

T, V = 12, KINECT_V1.num_joints


def random_clips(seed=0):
    """A clip of two persons, one whose person appears late, and one that ends early."""
    rng = np.random.default_rng(seed)
    clips = rng.normal(size=(3, 2, T, V, 3)).astype(np.float32)
    clips[1, 1] = 0
    clips[1, 0, :3] = 0
    clips[2, 1] = 0
    clips[2, 0, 8:] = 0
    return clips


def tokens_of(clips, **settings):
    module = ENTRY.make(KinematicsSettings(**settings), KINECT_V1)
    return np.asarray(jax.jit(lambda c: module.apply({}, c, method="tokens"))(jnp.asarray(clips)))


def body(person, path):
    """Body coordinates of one person `[t, V, 3]`, by definition."""
    hip = person[:, KINECT_V1.hip_center]
    joints = person - hip[:, None]
    if path:
        joints[:, KINECT_V1.hip_center] = hip - hip[0]
    spine = np.linalg.norm(person[:, KINECT_V1.spine_top] - hip, axis=-1).mean()
    return joints / spine


@pytest.mark.parametrize("path", [False, True])
def test_statistics_equal_numpy(path):
    clips = random_clips()
    got = tokens_of(clips, segments=1, path=path)
    persons = [[clips[0, 0], clips[0, 1]], [clips[1, 0, 3:]], [clips[2, 0, :8]]]
    for number, present in enumerate(persons):
        expected = []
        for person in present:
            x = body(person.astype(np.float64), path)
            velocity = np.abs(np.diff(x, axis=0)).mean(axis=0)
            statistics = (x.mean(axis=0), x.std(axis=0), velocity, np.ptp(x, axis=0))
            expected.append(np.concatenate(statistics, axis=-1))
        np.testing.assert_allclose(got[number, 0], np.mean(expected, axis=0), atol=2e-4)


def test_segments_are_parts_of_the_clip():
    clips = random_clips()[:1]
    whole = body(clips[0, 0].astype(np.float64), True)
    other = body(clips[0, 1].astype(np.float64), True)
    got = tokens_of(clips, segments=3, statistics=("mean",))
    for part in range(3):
        frames = slice(4 * part, 4 * part + 4)
        expected = (whole[frames].mean(axis=0) + other[frames].mean(axis=0)) / 2
        np.testing.assert_allclose(got[0, part], expected, atol=2e-4)


def test_features_do_not_depend_on_position_and_size():
    clips = random_clips()[:1]
    moved = 1.7 * clips + np.array([3.0, -2.0, 1.0], np.float32)
    np.testing.assert_allclose(tokens_of(moved), tokens_of(clips), atol=1e-3)


def test_an_empty_clip_is_finite_and_zero():
    assert not tokens_of(np.zeros((1, 1, T, V, 3), np.float32)).any()


def test_shape_streams_and_settings():
    module = ENTRY.make(KinematicsSettings(segments=2, statistics=("mean", "range")), KINECT_V1)
    assert token_shape(module, (2, T, V, 3)) == (2, V, 6)
    assert not ENTRY.trained
    two = trained_encoder(module, {}, ("joint", "bone"), KINECT_V1)
    with pytest.raises(ValueError, match=r"expected data\.streams="):
        two.tokens({}, jnp.asarray(random_clips()), 6)
    with pytest.raises(ValueError, match="did you mean 'range'"):
        KinematicsSettings(statistics=("ranges",))
    with pytest.raises(ValueError, match="expected one or more of mean"):
        KinematicsSettings(statistics=())
