"""Losses of methods that compare one vector of a clip with one of a class, against PyTorch."""

import pytest
import torch
from torch.nn import functional

from dynapurls_jax.zero_shot import jpose, revise, smie
from tests.helpers.torch_losses import B, check, layers_of, linear, two_layers


def hinge(x, t, y, margin=0.3):
    """ReViSE's, sample by sample."""
    total = 0.0
    for b in range(len(x)):
        own = x[b] @ t[y[b]]
        for c in range(len(t)):
            total = total + torch.clamp(x[b] @ t[c].detach() - own + margin, min=0)
    return total / len(x)


@pytest.mark.slow
def test_revise():
    def reference(p, x, t, words, y):
        x = x.clone().requires_grad_()
        hidden = torch.relu(linear(p["encoder"]["layer0"], x))
        of_text = t
        for layer in layers_of(p["text_encoder"]):
            of_text = torch.relu(linear(layer, of_text))
        rebuilt = linear(p["decoder"]["layer0"], hidden)
        text_rebuilt = two_layers(p["text_decoder"], of_text)
        (slope,) = torch.autograd.grad(hidden.sum(), x, create_graph=True)
        a, b = hidden, of_text[y]

        def kernel(u, v):
            return torch.exp(-0.5 * ((u[:, None] - v[None]) ** 2).sum(-1)).mean()

        mmd = kernel(a, a) + kernel(b, b) - kernel(a, b) - kernel(b, a)
        mapped = torch.tanh(linear(p["map"]["layer0"], hidden))
        text_mapped = torch.tanh(linear(p["text_map"]["layer0"], of_text))
        return (
            hinge(mapped, text_mapped, y)
            + functional.mse_loss(rebuilt, x)
            + functional.mse_loss(text_rebuilt[y], t[y])
            + mmd
            + 0.1 * slope.norm()
        )

    settings = revise.ReviseSettings(
        hidden=6, text_hidden=9, common=4, bandwidth=0.5, contraction=0.1
    )
    check(revise, settings, reference)


@pytest.mark.slow
def test_jpose():
    def reference(p, x, t, words, y):
        x = functional.normalize(x, dim=-1)
        clips, classes, total = [], [], 0.0
        for number, word in enumerate(jpose.WORDS):
            clips.append(functional.normalize(torch.tanh(linear(p[f"clip_{word}"], x)), dim=-1))
            first, second = layers_of(p[f"text_{word}"])
            hidden = torch.tanh(linear(first, words[:, number]))
            classes.append(functional.normalize(torch.relu(linear(second, hidden)), dim=-1))
        both = torch.tanh(linear(p["clip_joint"], torch.cat(clips, -1)))
        clips.append(functional.normalize(both, dim=-1))
        both = torch.tanh(linear(p["text_joint"], torch.cat(classes, -1)))
        classes.append(functional.normalize(both, dim=-1))
        for one, other in zip(clips, classes, strict=True):
            total = total + hinge(one, other, y)
        for number in range(2):
            z, fixed = clips[number], clips[number].detach()
            names = [tuple(words[c, number].tolist()) for c in y]
            for j in range(B):
                same = [k for k in range(B) if names[k] == names[j]]
                other = [k for k in range(B) if names[k] != names[j]]
                positive = min(same, key=lambda k, j=j: float(fixed[j] @ fixed[k]))
                negative = max(other, key=lambda k, j=j: float(fixed[j] @ fixed[k]))
                gap = z @ (fixed[negative] - fixed[positive]) + 0.3
                total = total + 0.2 * torch.clamp(gap, min=0).sum() / B
        return total

    settings = jpose.JposeSettings(text_hidden=9, common=4, triplets=0.2)
    check(jpose, settings, reference, text="words")


def test_smie():
    def reference(p, x, t, words, y):
        x = functional.layer_norm(x, x.shape[-1:])

        def score(x):
            h = torch.cat([x, t[y]], -1)
            *hidden, last = layers_of(p["network"])
            for layer in hidden:
                h = torch.relu(linear(layer, h))
            return linear(last, h)

        positive, negative = score(x), score(torch.roll(x, -1, 0))
        return functional.softplus(-positive).mean() + functional.softplus(negative).mean()

    check(smie, smie.SmieSettings(hidden=8), reference)
