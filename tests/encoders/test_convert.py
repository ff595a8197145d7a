"""Published Shift-GCN checkpoints: names, round trips, and outputs on real clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.convert_shift_gcn import from_state_dict, to_state_dict
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.shift_gcn import ShiftGCN
from dynapurls_jax.training.classifiers import Classifier
from scripts import convert_encoder as script

CHECKPOINTS = ("ntu_ShiftGCN_joint_xsub", "ntu120_ShiftGCN_joint_xsetup")


def published(classes, form=None):
    """The published network, whose means include absent persons."""
    return Classifier(SkeletonEncoder(ShiftGCN(64, form=form), count_absent=True), classes)


@pytest.fixture(scope="module")
def variables():
    """Variables of a full-size classifier; every leaf is different."""
    model = published(60)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 8, 25, 3)))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(tree, arrays)


def test_state_dict_round_trip(variables):
    state = to_state_dict(variables)
    assert len(state) == 302  # what the published checkpoints have
    assert state["l5.gcn1.Linear_weight"].shape == (64, 128)
    assert state["l5.residual.conv.weight"].shape == (128, 64, 1, 1)
    assert state["fc.weight"].shape == (60, 256)
    back = from_state_dict(state)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_the_error_of_a_missing_tensor_names_it(variables):
    state = to_state_dict(variables)
    del state["l3.tcn1.shift_in.ypos"]
    with pytest.raises(ValueError, match=r"it lacks l3\.tcn1\.shift_in\.ypos"):
        from_state_dict(state)


def test_npz_round_trip(variables, tmp_path):
    script.save_variables(tmp_path / "x.npz", variables)
    back = script.load_variables(tmp_path / "x.npz")
    jax.tree.map(np.testing.assert_array_equal, back, dict(variables))
    with pytest.raises(SystemExit, match=r"expected a \.pt and an \.npz"):
        script.main([str(tmp_path / "x.npz"), str(tmp_path / "y.npz")])


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize("form", [None, "tpu"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_checkpoints_round_trip_and_give_the_published_features(shared_data, name, form):
    """302 tensors survive a round trip; features and logits on real clips equal the published."""
    pytest.importorskip("torch", reason="reading .pt files needs torch, which is not installed")
    state = script.load_pt(shared_data / "shift_gcn" / f"{name}.pt")
    converted = jax.tree.map(jnp.asarray, from_state_dict(state))
    back = to_state_dict(converted)
    assert back.keys() == state.keys()
    for key, array in state.items():
        assert back[key].shape == array.shape
        if not key.endswith(("num_batches_tracked", "xpos")):  # a counter; nearly 0, not used
            np.testing.assert_array_equal(back[key], array, err_msg=key)
    oracle = np.load(shared_data / "shift_gcn" / "oracle_ntu_clips.npz")
    clips = oracle["joint_prenorm"].transpose(0, 4, 2, 3, 1)
    assert len(clips) == 65
    count = 65 if form is None else 2  # interpreted kernels are slow
    model = published(len(state["fc.bias"]), form)

    params = {key: leaf for key, leaf in converted["params"].items() if key != "classifier"}
    of_encoder = {**converted, "params": params}

    @jit
    def run(clips):
        pooled = model.encoder.apply(of_encoder, clips, method="pooled")
        return pooled, model.apply(converted, clips)

    parts = [run(jnp.asarray(part)) for part in np.split(clips[:count], 5 if count == 65 else 1)]
    pooled, logits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    expected = oracle[f"{name}_logits"][:count]
    np.testing.assert_allclose(pooled, oracle[f"{name}_feat"][:count], atol=1e-4)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_array_equal(logits.argmax(axis=1), expected.argmax(axis=1))
