"""`run_stream` against an eager PyTorch reference: predictions, scale and bias."""

import os

import jax
import numpy as np
import pytest

from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.static import static
from tests.helpers.cases import slow
from tests.helpers.small_model import small_model, small_tokens

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
from tests.helpers.torch_refinement import TorchRefinement, TorchStatic, tensor

COUNT, HORIZON = 40, 20  # the end of the cosine is passed
# All stored samples make the batch, so nothing is random.
SETTINGS = DynaPurlsSettings(
    learning_rate=0.03, capacity=3, threshold=0.7, min_samples=4, per_class=0
)


@pytest.mark.parametrize("query", ["label_free", slow("per_candidate")])
def test_torch_refinement_equals_the_scan(query):
    model, variables, candidates = small_model(query)
    features = model.encode(variables, small_tokens(COUNT, seed=3))
    info = StreamInfo.of(features)._replace(chunks=HORIZON)
    adapter = adapter_of(dynapurls(model, variables, SETTINGS, info))
    state, prediction = run_stream(adapter, adapter.init(candidates), features)
    reference = TorchRefinement(variables, candidates, query, SETTINGS, info)
    labels = [reference.step(*one) for one in zip(*map(tensor, features), strict=True)]
    np.testing.assert_array_equal(prediction.label, labels)
    refinement = state.inner_state.refinement
    np.testing.assert_allclose(refinement.scale[:, 0], reference.scale.detach(), atol=2e-4)
    np.testing.assert_allclose(refinement.bias[:, 0], reference.bias.detach(), atol=2e-4)
    assert reference.updates == int(prediction.adapted.sum()) > HORIZON
    assert np.ptp(refinement.bias) > 0.05
    counts = np.asarray(state.inner_state.memory.filled.sum(axis=1))
    np.testing.assert_array_equal(reference.counts, counts)
    assert counts.max() == SETTINGS.capacity  # the least confident were evicted
    assert 0 < prediction.admitted.sum() < COUNT


@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_torch_scores_equal_the_static_method(query):
    model, variables, candidates = small_model(query)
    features = model.encode(variables, small_tokens(COUNT))
    adapter = adapter_of(static(model, variables))
    _, prediction = run_stream(adapter, adapter.init(candidates), features)
    reference = TorchStatic(variables, candidates, query)
    labels = [reference.step(*one) for one in zip(*map(tensor, features), strict=True)]
    np.testing.assert_array_equal(prediction.label, labels)


def test_torch_draws_one_stored_sample_of_each_class():
    model, variables, candidates = small_model()
    features = jax.device_get(model.encode(variables, small_tokens(COUNT, seed=3)))
    settings = DynaPurlsSettings(min_samples=4, capacity=3)
    info = StreamInfo.of(features, COUNT)
    reference = TorchRefinement(variables, candidates, "label_free", settings, info)
    for one in zip(*map(tensor, features), strict=True):
        reference.step(*one)
        labels, places = reference.draw()
        assert len(set(labels.tolist())) == len(labels) == int((reference.counts > 0).sum())
        assert (places < reference.counts[labels]).all()
