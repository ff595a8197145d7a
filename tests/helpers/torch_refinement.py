"""Algorithm 1 in eager PyTorch, one sample at a time, at the paper's settings.

The reference of `tests/test_torch_refinement.py` and of `scripts/benchmarks/stream.py`; as a careful
user would write it: samples come with their keys, the memory stores both, gradients are kept for
scale and bias alone, only the global granularity is computed. Not Algorithm 1 but ours: `B_min`,
and the draws of a balanced batch.
"""

import math

import numpy as np
import torch
from torch.nn import functional

from dynapurls_jax.adaptation import RefineSettings


def tensor(array, device="cpu") -> torch.Tensor:
    """A copy of an array."""
    return torch.from_numpy(np.array(array)).to(device)


class TorchStatic:
    """The model without adaptation.

    Args:
      variables, text: of a model with the row head and the global score, whose weights it takes.
      query: "label_free" or "per_candidate".
    """

    def __init__(self, variables, text, query, device="cpu"):
        params = variables["params"]
        first, second = params["project"]["Dense_0"], params["project"]["Dense_1"]
        self.first = tensor(first["kernel"].T, device), tensor(first["bias"], device)
        self.second = tensor(second["kernel"].T, device), tensor(second["bias"], device)
        kernel = tensor(params["query_map"]["kernel"].T, device)
        self.query_map = kernel / math.sqrt(len(kernel))
        self.sharpness = min(math.exp(float(params["log_scale"])), 100.0)
        self.per_candidate = query == "per_candidate"
        self.classes = tensor(text.classes[:, 0], device)  # [C, d]
        self.query = tensor(text.query[0], device)  # [d]

    def logits(self, tokens, keys, classes, query):
        """Of samples `[B, S, n]` with their keys `[B, S, h]`: `[B, C]`."""
        asked = functional.linear(classes if self.per_candidate else query[None], self.query_map)
        attention = torch.softmax(asked @ keys.transpose(1, 2), dim=-1)  # [B, Q, S]
        hidden = torch.relu(functional.linear(attention @ tokens, *self.first))
        rows = functional.normalize(functional.linear(hidden, *self.second), dim=-1)  # [B, Q, d]
        if self.per_candidate:
            return self.sharpness * torch.einsum("bcd,cd->bc", rows, classes)
        return self.sharpness * rows[:, 0] @ classes.T

    @torch.no_grad()
    def step(self, tokens, keys) -> int:
        """The label of one sample `[S, n]`."""
        return int(self.logits(tokens[None], keys[None], self.classes, self.query).argmax())


class TorchRefinement(TorchStatic):
    """The same, refined.

    Args:
      settings: read are `learning_rate`, `horizon`, `slots`, `threshold`, `min_samples`, and
        `per_class`: 1, a random sample of each class that has any, or 0, all samples.
    """

    def __init__(self, variables, text, query, settings: RefineSettings, shapes, device="cpu"):
        super().__init__(variables, text, query, device)
        count, slots = len(self.classes), settings.slots
        self.settings, self.updates, self.held = settings, 0, 0
        self.scale = torch.ones_like(self.classes, requires_grad=True)
        self.bias = torch.zeros_like(self.classes, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.scale, self.bias], settings.learning_rate)
        self.priority = torch.full((count, slots), -torch.inf, device=device)
        self.counts = torch.zeros(count, dtype=torch.long, device=device)
        self.tokens, self.keys = (
            torch.zeros((count, slots, *shape), device=device) for shape in shapes
        )

    def refined(self):
        """Eq. 12; the label-free queries take the mean scale and bias."""
        classes = functional.normalize(self.scale * self.classes + self.bias, dim=-1)
        if self.per_candidate:
            return classes, None
        query = self.scale.mean(dim=0) * self.query + self.bias.mean(dim=0)
        return classes, functional.normalize(query, dim=-1)

    def step(self, tokens, keys) -> int:
        """Predicts one sample, then learns."""
        with torch.no_grad():
            logits = self.logits(tokens[None], keys[None], *self.refined())[0]
            confidence, label = (float(x) for x in torch.softmax(logits, dim=-1).max(dim=-1))
            label = int(label)
            if confidence > self.settings.threshold:
                self.offer(label, confidence, tokens, keys)
        if self.held >= self.settings.min_samples:
            self.update()
        return label

    def offer(self, label, confidence, tokens, keys):
        """The lowest confidence leaves."""
        lowest, slot = (x.item() for x in self.priority[label].min(dim=0))
        if confidence > lowest:
            if lowest == -math.inf:
                self.held += 1
                self.counts[label] += 1
            self.priority[label, slot] = confidence
            self.tokens[label, slot] = tokens
            self.keys[label, slot] = keys

    def draw(self):
        """Class and slot of each sample of a balanced batch."""
        if self.settings.per_class == 0:
            return torch.nonzero(self.priority > -torch.inf, as_tuple=True)
        labels = torch.nonzero(self.counts)[:, 0]
        chance = torch.rand(len(labels), device=labels.device)
        return labels, (chance * self.counts[labels]).long()

    def update(self):
        """Eq. 15 and 16, with Adam and the cosine of section 4.1.4."""
        s = self.settings
        phase = min(self.updates / s.horizon, 1.0)
        self.optimizer.param_groups[0]["lr"] = (
            0.5 * s.learning_rate * (1 + math.cos(math.pi * phase))
        )
        labels, slots = self.draw()
        logits = self.logits(self.tokens[labels, slots], self.keys[labels, slots], *self.refined())
        self.optimizer.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        self.optimizer.step()
        self.updates += 1
