"""Functions in one interpreted TPU kernel, against the same functions without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.one_kernel import _call, _can_be_lowered, in_one_kernel
from dynapurls_jax.adaptation.refinement import Refinement, no_refinement, refine
from tests.helpers.small_model import small_model, small_tokens


def score_gradient():
    """The gradient of a sum of logits by the refinement (label-free PURLS), and its arguments."""
    model, variables, candidates = small_model("label_free")
    scored = model.embedding.scored(candidates)
    active = jnp.array([True, True, False, True])
    features = model.encode(variables, small_tokens(3))

    def total(refinement: Refinement, features):
        moved = refine(scored, refinement, active)
        return jnp.sum(jnp.sin(model.score(variables, features, moved)))

    def function(refinement, features):
        return jax.grad(total)(refinement, features), active & (refinement.scale[:, 0, 0] > 0)

    return function, (no_refinement(scored.classes), features)


def traced(function, arguments):
    closed = jax.make_jaxpr(function)(*arguments)
    return closed, [jnp.asarray(a) for a in (*closed.consts, *jax.tree.leaves(arguments))]


def test_a_gradient_in_one_kernel_equals_that_without():
    function, arguments = score_gradient()
    expected = jax.tree.leaves(jax.jit(function)(*arguments))
    found = _call(*traced(function, arguments), interpret=True)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.skipif(jax.__version_info__ < (0, 8), reason="jax 0.7 lowers fewer operations")
def test_functions_that_cannot_be_lowered_are_detected():
    function, arguments = score_gradient()
    assert _can_be_lowered(*traced(function, arguments))
    assert not _can_be_lowered(*traced(jnp.linalg.qr, (jnp.ones((8, 8)),)))


def test_other_platforms_call_the_function_directly():
    assert in_one_kernel(lambda x: x + 1, 2) == 3
