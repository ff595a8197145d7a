"""The TPU form of Shift-GCN, with interpreted kernels, against the form for CPUs and GPUs."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.jit import compiling_for, platform, runs_kernels
from dynapurls_jax.encoders.shift_gcn import ShiftGCN
from dynapurls_jax.encoders.shift_gcn_tpu import folded, unfolded
from dynapurls_jax.encoders.tpu_kernels import rows_of
from dynapurls_jax.training.classifiers import Classifier
from tests.helpers.cases import some

JOINTS = 5


def classifier(form: str, width: int, **options) -> Classifier:
    """Two layers of one form, the second with a stride and another width."""
    backbone = ShiftGCN(width, ((1, 1), (2, 2)), form=form, **options)
    return Classifier(SkeletonEncoder(backbone), 3)


def batch(clips: int):
    """Clips of two persons, one of them absent in the first clip."""
    x = jax.random.normal(jax.random.key(0), (clips, 2, 8, JOINTS, 3))
    return x.at[0, 1].set(0)


def noisy(width: int, clips, reach: float) -> dict:
    """Random variables: none is 0 or 1, and displacements are scaled by `reach` frames."""
    variables = jax.jit(classifier("gather", width).init)(jax.random.key(1), clips)

    def moved(path, leaf):
        leaf = leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)
        name = jax.tree_util.keystr(path)
        return jnp.abs(leaf) if "var" in name else leaf * (reach if "shift_" in name else 1)

    return jax.tree_util.tree_map_with_path(moved, variables)


def results(form: str, width: int, clips, variables: dict, **options):
    """Logits at inference; loss, gradients and new statistics of a training step."""
    model = classifier(form, width, **options)

    def loss(params):
        both = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, updated = model.apply(both, clips, True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits)), updated

    (value, updated), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return jax.jit(model.apply)(variables, clips), value, updated, grads


# Width 64 puts two persons into a row; a reach of 12 exceeds the 8 frames of a clip.
CASES = {"narrow": (4, 3, 1.0), "far": (4, 3, 12.0), "two persons in a row": (64, 9, 2.0)}


@cache
def both_forms(name: str):
    width, clips, reach = CASES[name]
    x = batch(clips)
    variables = noisy(width, x, reach)
    return [results(form, width, x, variables) for form in ("gather", "tpu")]


@pytest.mark.parametrize("name", some(CASES))
def test_both_forms_are_the_same_function(name):
    (logits, loss, updated, _), (found, found_loss, found_updated, _) = both_forms(name)
    np.testing.assert_allclose(found, logits, atol=1e-4)
    assert float(found_loss) == pytest.approx(float(loss), abs=1e-4)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found_updated, updated)


@pytest.mark.parametrize("name", some(CASES))
def test_both_forms_have_the_same_gradients(name):
    (*_, grads), (*_, found) = both_forms(name)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads))
    leaves = zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(found), strict=True)
    for (path, one), other in leaves:
        # A bias before a normalisation has no gradient except for rounding.
        bound = 1e-3 * float(jnp.abs(one).max()) + 1e-6 * largest
        np.testing.assert_allclose(other, one, atol=bound, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_bfloat16_is_close_to_float32():
    x = batch(3)
    variables = noisy(4, x, 1.0)
    exact = results("gather", 4, x, variables)[0]
    narrow = results("tpu", 4, x, variables, dtype=jnp.bfloat16)[0]
    assert float(jnp.abs(narrow - exact).max()) < 0.1 * float(jnp.abs(exact).max())


@pytest.mark.parametrize(("number", "width"), [(3, 4), (20, 64), (40, 128)])
def test_unfolded_inverts_folded(number, width):
    x = jnp.arange(number * 4 * JOINTS * 3, dtype=jnp.float32).reshape(number, 4, JOINTS, 3)
    there, persons = folded(x, width, None, interpret=True)
    assert there.shape[2] % rows_of(x.dtype) == 0
    np.testing.assert_array_equal(unfolded(there, persons.fold, number), x)


def test_the_platform_chooses_the_form():
    assert platform() == jax.default_backend()
    with compiling_for("tpu"):
        assert ShiftGCN()._for_tpu
        assert not ShiftGCN(form="gather")._for_tpu
    assert not ShiftGCN()._for_tpu


def test_the_kernels_can_be_disabled(monkeypatch):
    assert not runs_kernels()
    with compiling_for("tpu"):
        assert runs_kernels()
        monkeypatch.setenv("DYNAPURLS_TPU_KERNELS", "0")
        assert not runs_kernels()
