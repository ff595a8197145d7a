"""The temporal convolutional network against PyTorch, and its invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.encoders.base import token_shape
from dynapurls_jax.encoders.kinematics import Kinematics, KinematicsSettings, body_coordinates
from dynapurls_jax.encoders.temporal_conv import ENTRY, TemporalConvSettings

T, V, WIDTH = 12, KINECT_V1.num_joints, 6
MODULE = ENTRY.make(TemporalConvSettings(width=WIDTH), KINECT_V1)


def clips_of(count=3, persons=2):
    """Random clips; the second has only one person."""
    clips = np.random.default_rng(0).normal(size=(count, persons, T, V, 3)).astype(np.float32)
    clips[1, 1] = 0
    return jnp.asarray(clips)


@pytest.fixture(scope="module")
def variables():
    """Random variables, including running statistics."""
    found = jax.jit(lambda clips: MODULE.init(jax.random.key(0), clips, method="pooled"))(
        clips_of()
    )
    keys = iter(jax.random.split(jax.random.key(1), 99))
    return jax.tree.map(lambda leaf: jax.random.uniform(next(keys), leaf.shape, minval=0.2), found)


def pooled(variables, clips):
    return np.asarray(jax.jit(lambda c: MODULE.apply(variables, c, method="pooled"))(clips))


def torch_pooled(variables, person):
    """The mean feature of one person `[T, V, 3]` in body coordinates."""
    params, stats = variables["params"], variables["batch_stats"]["data_norm"]
    norm = {k: np.asarray(v).reshape(V, 3) for k, v in (params["data_norm"] | dict(stats)).items()}
    x = (person - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
    x = torch.tensor(x.reshape(T, V * 3).T[None])
    for number, margin in enumerate((2, 1)):
        weights = params[f"convolutions_{number}"]
        kernel = torch.tensor(np.asarray(weights["kernel"], np.float64).transpose(2, 1, 0))
        x = torch.nn.functional.pad(x, (margin, margin), mode="replicate")
        bias = torch.tensor(np.asarray(weights["bias"], np.float64))
        x = torch.nn.functional.conv1d(x, kernel, bias, stride=2)
        affine = [np.asarray(params[f"norms_{number}"][k], np.float64) for k in ("scale", "bias")]
        x = torch.nn.functional.layer_norm(x.mT, (WIDTH,), *map(torch.tensor, affine), eps=1e-6)
        x = torch.relu(x).mT
    return x.mean(dim=-1)[0].numpy()


def test_the_mean_feature_equals_pytorch(variables):
    clips = clips_of()
    joints = np.asarray(body_coordinates(clips, KINECT_V1), np.float64)
    persons = [[0, 1], [0], [0, 1]]
    expected = [
        np.mean([torch_pooled(variables, joints[n, m]) for m in present], axis=0)
        for n, present in enumerate(persons)
    ]
    np.testing.assert_allclose(pooled(variables, clips), expected, atol=1e-4)


@pytest.mark.slow
def test_the_token_has_the_statistics_first(variables):
    clips = clips_of()
    token = MODULE.apply(variables, clips, method="tokens")
    statistics = Kinematics(KinematicsSettings(), KINECT_V1).tokens(clips)
    assert token.shape[1:] == token_shape(MODULE, clips.shape[1:]) == (1, 1, 12 * V + WIDTH)
    np.testing.assert_allclose(token[:, 0, 0, : 12 * V], statistics.reshape(3, -1), atol=1e-5)
    np.testing.assert_allclose(token[:, 0, 0, 12 * V :], pooled(variables, clips), atol=1e-5)


def test_features_do_not_depend_on_position_and_size(variables):
    clips = clips_of()[:1]
    moved = 1.7 * clips + jnp.array([3.0, -2.0, 1.0])
    np.testing.assert_allclose(pooled(variables, moved), pooled(variables, clips), atol=1e-3)


@pytest.mark.slow
def test_training_normalises_by_the_present_persons_of_the_batch():
    """An absent person changes neither the feature nor the running statistics."""
    clips = clips_of()
    fresh = MODULE.init(jax.random.key(0), clips, method="pooled")

    def run(clips):
        return MODULE.apply(fresh, clips, True, method="pooled", mutable=["batch_stats"])

    found, updated = run(clips)
    padded = jnp.pad(clips, ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    same, also = run(padded)
    np.testing.assert_allclose(found, same, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), updated, also)
    assert np.abs(updated["batch_stats"]["data_norm"]["mean"]).max() > 0.01


def test_an_empty_clip_is_finite(variables):
    assert np.isfinite(pooled(variables, jnp.zeros((1, 1, T, V, 3)))).all()
