"""Losses of methods that use joints and frames apart, against PyTorch."""

import pytest
import torch
from torch.nn import functional

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import neuron, star
from tests.helpers.torch_losses import C, check_cube, layers_of, linear, two_layers


@pytest.mark.slow
def test_neuron():
    def reference(p, cube, text, y):
        def network(layers, x):
            for layer in layers_of(layers):
                x = torch.relu(linear(layer, x))
            return x

        def row(branch, prototypes):
            mapped = torch.relu(linear(p[branch]["project"], prototypes.mean(0)))
            return functional.normalize(mapped, dim=-1)

        parts = functional.normalize(text[:, 1:5].mean(1), dim=-1)
        phases = functional.normalize(text[:, 5:].mean(1), dim=-1)
        losses = []
        for b, x in enumerate(cube):
            now, joints = p["spatial"]["prototypes"], x.mean(0)
            for r in range(3):
                similarity = joints @ now.T
                weights = torch.softmax(similarity, 0).clone()
                for v in range(len(joints)):
                    weakest = similarity[v].argsort()[: 2 * (r + 1)]
                    weights[v, weakest] = 1e-12
                now = network(p["spatial"][f"update{r}"], weights.T @ joints)
                logits = 0.1 * parts @ row("spatial", now)
                losses.append(functional.cross_entropy(logits[None], y[b : b + 1]))
            now, times = p["temporal"]["prototypes"], x.mean(1)
            for r, count in enumerate((1, 2, 3)):
                seen = times[:count]
                a = torch.softmax(seen @ now.T, 0).T @ seen
                gates = [
                    torch.sigmoid(network(p["temporal"][f"{n}{r}"], a))
                    for n in ("recall", "memory")
                ]
                now = gates[0] * now + gates[1] * network(p["temporal"][f"update{r}"], a)
                logits = 0.1 * phases @ row("temporal", now)
                losses.append(functional.cross_entropy(logits[None], y[b : b + 1]))
        return torch.stack(losses).mean()

    check_cube(neuron, neuron.NeuronSettings(prototypes=8), reference)


@pytest.mark.slow
def test_star():
    def reference(p, cube, text, y):
        found, texts = [], []
        names = ("head", "hands", "torso", "legs")
        label = two_layers(p["label"], text[:, 0])
        for number, name in enumerate(names):
            q, part = p[name], cube[:, :, list(KINECT_V1.parts[name])].flatten(1, 2)
            weights = [q[name]["kernel"].T for name in ("query", "key", "value")]
            biases = torch.cat([q[name]["bias"] for name in ("query", "key", "value")])
            queries = q["prompts"].expand(len(part), -1, -1)
            gathered, _ = functional.multi_head_attention_forward(
                queries.transpose(0, 1),
                part.transpose(0, 1),
                part.transpose(0, 1),
                8,
                2,
                None,
                biases,
                None,
                None,
                False,
                0.0,
                q["output"]["kernel"].T,
                q["output"]["bias"],
                use_separate_proj_weight=True,
                q_proj_weight=weights[0],
                k_proj_weight=weights[1],
                v_proj_weight=weights[2],
            )
            e = two_layers(q["network"], gathered.transpose(0, 1))
            found.append(torch.einsum("pi,ij,bpj->bp", q["prompts"], q["product"], e))
            texts.append(two_layers(q["text"], text[:, 1 + number] + q["offset"]))
        unit_rows = functional.normalize
        whole = unit_rows(sum(found), dim=-1) @ unit_rows(label, dim=-1).T
        loss = 0.1 * functional.cross_entropy(whole, y)
        for part, described in zip(found, texts, strict=True):
            cosine = unit_rows(part, dim=-1) @ unit_rows(described, dim=-1).T
            loss = loss + functional.cross_entropy(cosine, y) / 4
            own = functional.cross_entropy(described @ label.T, torch.arange(C))
            loss = loss + 0.1 * own / 4
        return loss

    settings = star.StarSettings(prompts=5, heads=2, text_hidden=6)
    check_cube(star, settings, reference)
