"""Test-time methods of others that need gradients, against PyTorch's autograd and optimizers."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation import (
    TentSettings,
    TptSettings,
    adapter_of,
    residual_prompt,
    run_stream,
    tent,
    tpt,
)
from tests.helpers.small_model import S, part, small_model, small_tokens

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
import torch
from torch.nn import functional

from dynapurls_jax.adaptation import RefineSettings
from tests.helpers.torch_refinement import TorchRefinement, TorchStatic, tensor

COUNT = 24
every_query = pytest.mark.parametrize("query", ["label_free", "per_candidate"])


def entropy(logits):
    """In nats, `[B, C]` to `[B]`."""
    return -(torch.softmax(logits, -1) * torch.log_softmax(logits, -1)).sum(-1)


@every_query
@pytest.mark.parametrize(("chunk", "steps"), [(6, 1), (5, 2)])
def test_tent_lowers_the_entropy_as_adam_does(query, chunk, steps):
    model, variables, text = small_model(query)
    visual = model.encode(variables, small_tokens(COUNT, seed=3))
    adapter = adapter_of(tent(model, variables, TentSettings(0.02, steps)))
    state, prediction = run_stream(adapter, adapter.init(text), visual, chunk=chunk)
    shapes = [leaf.shape[1:] for leaf in visual]
    theirs = TorchRefinement(variables, text, query, RefineSettings(), shapes)
    optimizer = torch.optim.Adam([theirs.scale, theirs.bias], 0.02)
    expected = []
    for start in range(0, COUNT, chunk):
        samples = [tensor(leaf) for leaf in part(visual, start, start + chunk)]
        with torch.no_grad():
            expected.append(theirs.logits(*samples, *theirs.refined()))
        for _ in range(steps):
            optimizer.zero_grad()
            entropy(theirs.logits(*samples, *theirs.refined())).mean().backward()
            optimizer.step()
    np.testing.assert_allclose(prediction.logits, torch.cat(expected), atol=5e-3)
    refinement = state.own.refinement
    np.testing.assert_allclose(refinement.scale[:, 0], theirs.scale.detach(), atol=5e-4)
    np.testing.assert_allclose(refinement.bias[:, 0], theirs.bias.detach(), atol=5e-4)
    assert prediction.adapted.all()
    assert np.ptp(refinement.scale) > 0.02


@every_query
def test_tpt_tunes_each_sample_as_adamw_does(query):
    model, variables, text = small_model(query)
    visual = model.encode(variables, small_tokens(COUNT, seed=3))
    s = TptSettings(views=10, share=0.3, kept=0.5, learning_rate=0.02, steps=2)
    adapter = adapter_of(tpt(model, variables, s, residual_prompt(model)))
    key = jax.random.key(4)
    state, prediction = run_stream(adapter, adapter.init(text, key=key), visual)
    theirs = TorchStatic(variables, text, query)
    expected = []
    for number in range(COUNT):
        tokens, keys = (tensor(leaf[number]) for leaf in visual)
        # Only the source of randomness is shared.
        draw = jax.random.fold_in(jax.random.fold_in(key, number), 0)
        order = np.argsort(jax.random.uniform(draw, (s.views, S)), axis=1)[:, : S // 2]
        views = [leaf[torch.from_numpy(np.array(order)).long()] for leaf in (tokens, keys)]
        residual = torch.zeros_like(theirs.classes, requires_grad=True)
        optimizer = torch.optim.AdamW([residual], s.learning_rate, weight_decay=0.01)

        def logits(tokens, keys, residual=residual):
            classes = functional.normalize(theirs.classes + residual, dim=-1)
            return theirs.logits(tokens, keys, classes, theirs.query)

        with torch.no_grad():
            surest = torch.argsort(entropy(logits(*views)))[:3]
        views = [leaf[surest] for leaf in views]
        for _ in range(s.steps):
            optimizer.zero_grad()
            mean = torch.softmax(logits(*views), -1).mean(0)
            (-(mean * mean.log()).sum()).backward()
            optimizer.step()
        with torch.no_grad():
            expected.append(logits(tokens[None], keys[None])[0])
    expected = torch.stack(expected)
    # Adam divides a vanishing gradient by itself, so single logits may go either way.
    difference = np.abs(np.asarray(prediction.logits) - expected.numpy())
    assert np.median(difference) < 1e-3
    assert (difference.max(axis=1) < 2e-2).mean() > 0.9
    static = theirs.logits(*(tensor(leaf) for leaf in visual), theirs.classes, theirs.query)
    assert (static - expected).abs().median() > 0.02
    assert jax.tree.leaves(state.own) == []
    again = run_stream(adapter, adapter.init(text, key=key), visual)[1]
    np.testing.assert_array_equal(again.logits, prediction.logits)
    assert jnp.isfinite(prediction.logits).all()
