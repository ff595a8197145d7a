"""Published test-time methods with gradients, against PyTorch's autograd and optimizers."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings
from dynapurls_jax.adaptation.tent import TentSettings, tent
from dynapurls_jax.adaptation.tpt import TptSettings, tpt_residual
from tests.helpers.cases import cases
from tests.helpers.small_model import S, part, small_model, small_tokens

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
import torch
from torch.nn import functional

from tests.helpers.torch_refinement import TorchRefinement, TorchStatic, tensor

COUNT = 18
QUERIES = ("label_free", "per_candidate")


def entropy(logits):
    """Entropy in nats, `[B, C]` to `[B]`."""
    return -(torch.softmax(logits, -1) * torch.log_softmax(logits, -1)).sum(-1)


@pytest.mark.parametrize(
    ("query", "chunk", "steps"),
    cases(
        [("per_candidate", 6, 2)],
        [(query, *shape) for query in QUERIES for shape in [(6, 1), (6, 2), (5, 2)]],
    ),
)
def test_tent_equals_adam_on_the_entropy(query, chunk, steps):
    model, variables, candidates = small_model(query)
    features = model.encode(variables, small_tokens(COUNT, seed=3))
    adapter = adapter_of(tent(model, variables, TentSettings(0.02, steps)))
    state, prediction = run_stream(adapter, adapter.init(candidates), features, chunk=chunk)
    info = StreamInfo.of(features)
    reference = TorchRefinement(variables, candidates, query, DynaPurlsSettings(), info)
    optimizer = torch.optim.Adam([reference.scale, reference.bias], 0.02)
    expected = []
    for start in range(0, COUNT, chunk):
        samples = [tensor(leaf) for leaf in part(features, start, start + chunk)]
        with torch.no_grad():
            expected.append(reference.logits(*samples, *reference.refined()))
        for _ in range(steps):
            optimizer.zero_grad()
            entropy(reference.logits(*samples, *reference.refined())).mean().backward()
            optimizer.step()
    np.testing.assert_allclose(prediction.logits, torch.cat(expected), atol=5e-3)
    refinement = state.inner_state.refinement
    np.testing.assert_allclose(refinement.scale[:, 0], reference.scale.detach(), atol=5e-4)
    np.testing.assert_allclose(refinement.bias[:, 0], reference.bias.detach(), atol=5e-4)
    assert prediction.adapted.all()
    assert np.ptp(refinement.scale) > 0.02


def torch_tpt(reference, settings, sample, views):
    """Logits of one sample after its prompt is tuned.

    Args:
      sample, views: tokens and keys, `[S, ...]` and `[V, S / 2, ...]`.
    """
    residual = torch.zeros_like(reference.classes, requires_grad=True)
    optimizer = torch.optim.AdamW([residual], settings.learning_rate, weight_decay=0.01)

    def logits(tokens, keys):
        classes = functional.normalize(reference.classes + residual, dim=-1)
        return reference.logits(tokens, keys, classes, reference.query)

    with torch.no_grad():
        confident = torch.argsort(entropy(logits(*views)))[:3]
    views = [leaf[confident] for leaf in views]
    for _ in range(settings.steps):
        optimizer.zero_grad()
        mean = torch.softmax(logits(*views), -1).mean(0)
        (-(mean * mean.log()).sum()).backward()
        optimizer.step()
    with torch.no_grad():
        return logits(*(leaf[None] for leaf in sample))[0]


@pytest.mark.parametrize(
    "query", ["label_free", pytest.param("per_candidate", marks=pytest.mark.slow)]
)
def test_tpt_equals_adamw_for_each_sample(query):
    model, variables, candidates = small_model(query)
    features = model.encode(variables, small_tokens(COUNT, seed=3))
    s = TptSettings(views=10, confident_share=0.3, learning_rate=0.02, steps=2)
    adapter = adapter_of(tpt_residual(model, variables, s))
    key = jax.random.key(4)
    state, prediction = run_stream(adapter, adapter.init(candidates, key=key), features)
    reference = TorchStatic(variables, candidates, query)
    uniform = jax.jit(lambda key: jax.random.uniform(key, (s.views, S)))
    expected = []
    for number in range(COUNT):
        sample = [tensor(leaf[number]) for leaf in features]
        # Only the source of randomness is shared.
        noise = uniform(jax.random.fold_in(jax.random.fold_in(key, number), 0))
        order = torch.from_numpy(np.argsort(noise, axis=1)[:, : S // 2]).long()
        expected.append(torch_tpt(reference, s, sample, [leaf[order] for leaf in sample]))
    expected = torch.stack(expected)
    # Adam normalises vanishing gradients, so single logits may differ.
    difference = np.abs(np.asarray(prediction.logits) - expected.numpy())
    assert np.median(difference) < 1e-3
    assert (difference.max(axis=1) < 2e-2).mean() > 0.9
    static = reference.logits(*map(tensor, features), reference.classes, reference.query)
    assert (static - expected).abs().median() > 0.02
    assert jax.tree.leaves(state.inner_state) == []
    again = run_stream(adapter, adapter.init(candidates, key=key), features)[1]
    np.testing.assert_array_equal(again.logits, prediction.logits)
    assert jnp.isfinite(prediction.logits).all()
