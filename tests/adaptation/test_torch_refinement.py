"""The PyTorch of the bench does what `run_stream` does: predictions, scale and bias."""

import os

import jax
import numpy as np
import pytest

from dynapurls_jax.adaptation import RefineSettings, adapter_of, dynapurls, run_stream, static
from tests.helpers.small_model import first, small_model, small_tokens

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
from tests.helpers.torch_refinement import TorchRefinement, TorchStatic, tensor

COUNT = 40
# Everything that is held, so that no chance is needed; the end of the cosine is passed.
SETTINGS = RefineSettings(
    learning_rate=0.03, horizon=20, slots=3, threshold=0.7, min_samples=4, per_class=0
)


@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_torch_refines_as_the_scan_does(query):
    model, variables, text = small_model(query)
    visual = model.encode(variables, small_tokens(COUNT, seed=3))
    adapter = adapter_of(dynapurls(model, variables, first(visual), SETTINGS))
    state, prediction = run_stream(adapter, adapter.init(text), visual)
    shapes = [leaf.shape[1:] for leaf in visual]
    theirs = TorchRefinement(variables, text, query, SETTINGS, shapes)
    labels = [theirs.step(*one) for one in zip(*map(tensor, visual), strict=True)]
    np.testing.assert_array_equal(prediction.label, labels)
    refinement = state.own.refinement
    np.testing.assert_allclose(refinement.scale[:, 0], theirs.scale.detach(), atol=2e-4)
    np.testing.assert_allclose(refinement.bias[:, 0], theirs.bias.detach(), atol=2e-4)
    assert theirs.updates == int(prediction.adapted.sum()) > SETTINGS.horizon
    assert np.ptp(refinement.bias) > 0.05
    counts = np.asarray(state.own.memory.filled.sum(axis=1))
    np.testing.assert_array_equal(theirs.counts, counts)
    assert counts.max() == SETTINGS.slots  # the lowest had to leave
    assert 0 < prediction.admitted.sum() < COUNT


@pytest.mark.parametrize("query", ["label_free", "per_candidate"])
def test_torch_scores_as_the_static_model_does(query):
    model, variables, text = small_model(query)
    visual = model.encode(variables, small_tokens(COUNT))
    adapter = adapter_of(static(model, variables))
    _, prediction = run_stream(adapter, adapter.init(text), visual)
    theirs = TorchStatic(variables, text, query)
    labels = [theirs.step(*one) for one in zip(*map(tensor, visual), strict=True)]
    np.testing.assert_array_equal(prediction.label, labels)


def test_torch_draws_one_held_sample_of_each_class():
    model, variables, text = small_model()
    visual = jax.device_get(model.encode(variables, small_tokens(COUNT, seed=3)))
    settings = RefineSettings(min_samples=4, slots=3)
    theirs = TorchRefinement(
        variables, text, "label_free", settings, [leaf.shape[1:] for leaf in visual]
    )
    for one in zip(*map(tensor, visual), strict=True):
        theirs.step(*one)
        labels, slots = theirs.draw()
        assert len(set(labels.tolist())) == len(labels) == int((theirs.counts > 0).sum())
        assert (slots < theirs.counts[labels]).all()
