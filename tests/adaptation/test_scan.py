"""The stream loop for accelerators, run on the CPU, against the loop for CPUs."""

import inspect
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.encoders.jit import compiling_for
from tests.adaptation.test_streams import METHODS
from tests.helpers.cases import cases
from tests.helpers.small_model import small_model, small_tokens

COUNT = 11
KINDS = ("label_free", "per_candidate")
EVERY = list(product(METHODS, KINDS, (1, 4, 12)))
FEW = [
    ("dynapurls", "label_free", 1),
    ("balanced", "per_candidate", 1),
    ("static", "ridge", 12),
]


def made(name, model, variables, info):
    """A method; some take no information on the stream."""
    takes_info = "info" in inspect.signature(METHODS[name]).parameters
    return METHODS[name](model, variables, **({"info": info} if takes_info else {}))


@pytest.mark.parametrize(("name", "kind", "chunk"), cases(FEW, EVERY))
def test_an_accelerator_predicts_as_a_cpu(name, kind, chunk):
    model, variables, candidates = small_model(kind)
    features = jax.jit(model.encode)(variables, small_tokens(COUNT))
    features = jax.tree.map(lambda leaf: leaf.at[3].set(jnp.nan), features)
    info = StreamInfo.of(features, COUNT, chunk)
    both = []
    for platform in ("cpu", "gpu"):
        adapter = adapter_of(made(name, model, variables, info))
        with compiling_for(platform):
            state, first = run_stream(adapter, adapter.init(candidates), features, chunk=chunk)
            again = run_stream(adapter, state, features, chunk=chunk)  # counters continue
        both.append((state, first, again))
    leaves = zip(*map(jax.tree_util.tree_leaves_with_path, both), strict=True)
    for (path, one), (_, other) in leaves:
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5, err_msg=name)
