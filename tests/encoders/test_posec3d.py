"""PoseC3D: heatmaps against loops, the network against PyTorch, and a run with its tokens."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.encoders.base import token_shape
from dynapurls_jax.encoders.heatmaps import joint_heatmaps
from dynapurls_jax.encoders.posec3d import ENTRY, Bottleneck, Convolution, PoseC3DSettings, SlowOnly
from dynapurls_jax.training.classifiers import Classifier
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.purls import PurlsSettings
from dynapurls_jax.zero_shot.purls import make as make_purls
from tests.helpers.cases import slow
from tests.helpers.torch_posec3d import TorchSlowOnly
from tests.helpers.trained import small_config, small_inputs, train_small

JOINTS, WIDTH, BLOCKS = 3, 4, (1, 2, 1)
SMALL = PoseC3DSettings(frames=4, size=16, width=2, blocks=(1, 1, 1))


def clips_of(count=2, frames=9, joints=JOINTS):
    """Clips of two persons, of whom the second of the second clip is absent; the first is short."""
    clips = np.random.default_rng(0).normal(size=(count, 2, frames, joints, 3)).astype(np.float32)
    clips[0, :, 6:] = 0
    clips[1, 1] = 0
    clips[1, 0, 4] = 0  # a frame without persons
    return clips


def test_heatmaps_equal_loops():
    clips, frames, size = clips_of(), 5, 11  # no joint is exactly at the cut
    got = np.asarray(jax.jit(joint_heatmaps, static_argnums=(1, 2))(clips, frames, size))
    for clip, volume in zip(clips, got, strict=True):
        length = 1 + max(t for t in range(clip.shape[1]) if clip[:, t].any())
        chosen = [clip[:, int((f + 0.5) * length / frames)] for f in range(frames)]
        bodies = [[body for body in at_time if body.any()] for at_time in chosen]
        points = np.array([joint for at_time in bodies for body in at_time for joint in body])
        right, up = points[:, 0], points[:, 2]
        side = 1.25 * max(np.ptp(right), np.ptp(up))
        middle = [(axis.min() + axis.max()) / 2 for axis in (right, up)]
        expected = np.zeros((frames, size, size, JOINTS))
        for f, at_time in enumerate(bodies):
            for body in at_time:
                for joint, (x, _, z) in enumerate(body):
                    column = size * (0.5 - (x - middle[0]) / side)
                    row = size * (0.5 - (z - middle[1]) / side)
                    for i, j in np.ndindex(size, size):
                        if max(abs(i - row), abs(j - column)) <= 1.8:
                            value = np.exp(-((i - row) ** 2 + (j - column) ** 2) / 0.72)
                            expected[f, i, j, joint] = max(expected[f, i, j, joint], value)
        np.testing.assert_allclose(volume, expected, atol=1e-5)
    assert not joint_heatmaps(jnp.zeros((1, 1, 4, JOINTS, 3)), 2, 8).any()
    assert np.isfinite(joint_heatmaps(jnp.ones((1, 1, 4, JOINTS, 3)), 2, 8)).all()


def test_heatmaps_do_not_depend_on_place_and_size():
    clips = clips_of()
    moved = np.where(clips != 0, 3 * clips + np.array([1.0, 2.0, -3.0], np.float32), 0)
    heatmaps = jax.jit(joint_heatmaps, static_argnums=(1, 2))
    np.testing.assert_allclose(heatmaps(clips, 4, 10), heatmaps(moved, 4, 10), atol=1e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("train", [slow(False), True])
def test_blocks_and_gradients_equal_pytorch(train):
    """In float64, with random scales where fresh blocks have zeros: the output of each block."""
    torch.manual_seed(0)
    reference = TorchSlowOnly(JOINTS, WIDTH, BLOCKS).random().train(train)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 13, 13, JOINTS))
    theirs = torch.tensor(x.transpose(0, 4, 1, 2, 3), requires_grad=True)
    params, stats = reference.tree(lambda tensor: tensor.detach().numpy())
    stats = jax.tree.map(lambda tensor: jnp.asarray(tensor.numpy().copy()), stats)
    network = SlowOnly(WIDTH, BLOCKS, dtype=jnp.float64)
    fresh = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    assert jax.tree.structure(fresh) == jax.tree.structure({"params": params, "batch_stats": stats})
    expected = reference(theirs)
    weight = rng.normal(size=expected["stage2_0"].detach().permute(0, 2, 3, 4, 1).shape)
    (expected["stage2_0"].permute(0, 2, 3, 4, 1) * torch.tensor(weight)).sum().backward()

    @jax.jit
    def loss(params, x):
        (out, state) = network.apply(
            {"params": params, "batch_stats": stats},
            x,
            train,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, Bottleneck | Convolution),
        )
        return (out * weight).sum(), state["intermediates"]

    (_, found), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
    for name, features in expected.items():
        (own,) = found[name]["__call__"]
        own = np.maximum(own, 0)  # the stem's before the ReLU
        check_equal(own, features.detach().permute(0, 2, 3, 4, 1).numpy(), name)
    check_equal(gradients[1], theirs.grad.permute(0, 2, 3, 4, 1).numpy(), "input")
    of_params, _ = reference.tree(lambda tensor: tensor.grad.numpy())
    for (path, own), leaf in zip(
        jax.tree.leaves_with_path(gradients[0]), jax.tree.leaves(of_params), strict=True
    ):
        check_equal(own, leaf, jax.tree_util.keystr(path))


def check_equal(found, expected, name):
    """A relative error below 1e-10."""
    assert found.shape == expected.shape, name
    assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max(), name


def test_the_published_size():
    """2.02 million parameters with 17 joints and 60 classes; 2.03 if convolutions had biases."""
    classifier = Classifier(ENTRY.make(PoseC3DSettings(), KINECT_V1), 60)
    clip = jax.ShapeDtypeStruct((1, 2, 48, 17, 3), jnp.float32)
    variables = jax.eval_shape(classifier.init, jax.random.key(0), clip)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 2_024_860
    assert token_shape(ENTRY.make(PoseC3DSettings(), KINECT_V1), (2, 64, 17, 3)) == (3, 49, 512)


@pytest.fixture(scope="module")
def encoder():
    """A small encoder with random weights, and its clips."""
    module, clips = ENTRY.make(SMALL, KINECT_V1), jnp.asarray(clips_of())
    return module, jax.jit(partial(module.init, method="tokens"))(jax.random.key(0), clips), clips


def test_pooled_features_are_the_mean_of_the_tokens(encoder):
    module, variables, clips = encoder
    tokens, pooled = (
        jax.jit(partial(module.apply, method=method))(variables, clips)
        for method in ("tokens", "pooled")
    )
    assert tokens.shape == (2, 3, 4, 32)
    assert token_shape(module, clips.shape[1:]) == (3, 4, 32)
    two = ENTRY.make(PoseC3DSettings(4, 16, 2, (1, 1, 1), segments=2), KINECT_V1)
    tokens = jax.jit(partial(two.apply, method="tokens"))(variables, clips)
    np.testing.assert_allclose(tokens.mean(axis=(1, 2)), pooled, rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_features_are_close_to_float32(encoder):
    module, variables, clips = encoder
    narrow = ENTRY.make(PoseC3DSettings(4, 16, 2, (1, 1, 1), dtype="bfloat16"), KINECT_V1)
    a, b = (jax.jit(partial(m.apply, method="pooled"))(variables, clips) for m in (module, narrow))
    assert b.dtype == jnp.float32
    assert 0 < float(jnp.abs(a - b).max()) < 0.05 * float(jnp.abs(a).max())


@pytest.mark.slow
def test_rematerialisation_does_not_change_the_gradient(encoder):
    _, variables, clips = encoder

    @partial(jax.jit, static_argnums=0)
    def grads(remat):
        module = ENTRY.make(PoseC3DSettings(4, 16, 2, (1, 1, 1), remat=remat), KINECT_V1)

        def loss(params):
            both = {**variables, "params": params}
            apply = partial(module.apply, method="pooled", mutable=["batch_stats"])
            return jnp.sum(jnp.sin(apply(both, clips, True)[0]))

        return jax.grad(loss)(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads(True), grads(False)
    )


def test_what_it_cannot_use_is_refused(encoder):
    module, variables, clips = encoder
    with pytest.raises(ValueError, match=r"expected --config.data.streams=joint, got 6 channels"):
        module.apply(variables, jnp.concatenate([clips, clips], axis=-1), method="tokens")
    with pytest.raises(ValueError, match=r"blocks: expected a number of 1 or more for each of 3"):
        PoseC3DSettings(blocks=(1, 1))
    with pytest.raises(ValueError, match=r"got 49: set --config.method.purls.partition=adaptive"):
        make_purls(PurlsSettings(partition="static"), Shapes(KINECT_V1, (3, 49, 8), 6))


@pytest.mark.slow
def test_a_run_trains_it_and_attends_to_cells(tmp_path):
    config = small_config()
    config.encoder.name = "posec3d"
    config.encoder.posec3d.update(frames=4, size=16, width=2, blocks=(1, 1, 1))
    config.pretrain.epochs = config.fit.epochs = 1
    run = train_small(small_inputs(config), tmp_path)
    assert run.token_shape == (3, 4, 32)
    assert 0 <= run.results["encoder"]["seen_test_accuracy"] <= 1
    text = run.candidates_of(run.protocol.unseen)
    features = run.method.encode(run.variables, jnp.asarray(run.tokens[:2], jnp.float32))
    where = run.method.attend(run.variables, features, text)
    np.testing.assert_allclose(where.sum(axis=-1), 1, atol=1e-5)
    assert where.shape == (2, 1, 8, 12)
