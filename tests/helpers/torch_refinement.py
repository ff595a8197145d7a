"""Algorithm 1 in eager PyTorch, one sample at a time, with the paper's settings.

The reference of `tests/adaptation/test_torch_dynapurls.py` and `scripts/benchmarks/stream.py`. The
implementation is efficient: keys of samples are computed in advance, the memory stores tokens and
keys, only scale and bias have gradients, only the global granularity is computed. Additions to
Algorithm 1: `B_min`, and the sampling of a balanced batch.
"""

import math

import jax
import numpy as np
import torch
from torch.nn import functional

from dynapurls_jax.adaptation.api import StreamInfo
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings
from dynapurls_jax.zero_shot.base import Candidates, Variables


def tensor(array, device="cpu") -> torch.Tensor:
    """A copy of an array."""
    return torch.from_numpy(np.array(array)).to(device)


class TorchStatic:
    """PURLS without adaptation.

    Args:
      variables, candidates: from PURLS with the row head and the global score.
      query: "label_free" or "per_candidate".
    """

    def __init__(self, variables: Variables, candidates: Candidates, query: str, device="cpu"):
        params = variables["params"]
        first, second = params["project"]["Dense_0"], params["project"]["Dense_1"]
        self.first = tensor(first["kernel"].T, device), tensor(first["bias"], device)
        self.second = tensor(second["kernel"].T, device), tensor(second["bias"], device)
        kernel = tensor(params["partition"]["query_map"]["kernel"].T, device)
        self.query_map = kernel / math.sqrt(len(kernel))
        self.scale_of_cosines = min(math.exp(float(params["log_scale"])), 100.0)
        self.per_candidate = query == "per_candidate"
        self.classes = tensor(candidates.classes[:, 0], device)  # [C, d]
        self.query = tensor(variables["query"][0], device)  # [d]

    def logits(self, tokens, keys, classes, query):
        """Logits `[B, C]` of samples `[B, S, n]` with their keys `[B, S, h]`."""
        queries = classes if self.per_candidate else query[None]
        queries = functional.linear(queries, self.query_map)
        attention = torch.softmax(queries @ keys.transpose(1, 2), dim=-1)  # [B, Q, S]
        hidden = torch.relu(functional.linear(attention @ tokens, *self.first))
        vectors = functional.normalize(functional.linear(hidden, *self.second), dim=-1)
        if self.per_candidate:  # [B, C, d]
            return self.scale_of_cosines * torch.einsum("bcd,cd->bc", vectors, classes)
        return self.scale_of_cosines * vectors[:, 0] @ classes.T

    @torch.no_grad()
    def step(self, tokens, keys) -> int:
        """The label of one sample `[S, n]`."""
        return int(self.logits(tokens[None], keys[None], self.classes, self.query).argmax())


class TorchRefinement(TorchStatic):
    """PURLS with the dynamic refinement.

    Args:
      settings: used are `learning_rate`, `capacity`, `threshold`, `min_samples`, and `per_class`:
        1 for a random sample of each stored class, or 0 for all samples.
      info: shapes of a sample, and the length of the cosine schedule.
    """

    def __init__(
        self,
        variables: Variables,
        candidates: Candidates,
        query: str,
        settings: DynaPurlsSettings,
        info: StreamInfo,
        device="cpu",
    ):
        super().__init__(variables, candidates, query, device)
        count, places = len(self.classes), settings.capacity
        self.settings, self.horizon = settings, info.chunks
        self.updates, self.stored = 0, 0
        self.scale = torch.ones_like(self.classes, requires_grad=True)
        self.bias = torch.zeros_like(self.classes, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.scale, self.bias], settings.learning_rate)
        self.priority = torch.full((count, places), -torch.inf, device=device)
        self.counts = torch.zeros(count, dtype=torch.long, device=device)
        self.tokens, self.keys = (
            torch.zeros((count, places, *leaf.shape), device=device)
            for leaf in jax.tree.leaves(info.sample)
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
        if self.stored >= self.settings.min_samples:
            self.update()
        return label

    def offer(self, label, confidence, tokens, keys):
        """Stores a sample; evicts the one with the lowest confidence of its class."""
        lowest, place = (x.item() for x in self.priority[label].min(dim=0))
        if confidence > lowest:
            if lowest == -math.inf:
                self.stored += 1
                self.counts[label] += 1
            self.priority[label, place] = confidence
            self.tokens[label, place] = tokens
            self.keys[label, place] = keys

    def draw(self):
        """Class and memory slot of each sample of a balanced batch."""
        if self.settings.per_class == 0:
            return torch.nonzero(self.priority > -torch.inf, as_tuple=True)
        labels = torch.nonzero(self.counts)[:, 0]
        chance = torch.rand(len(labels), device=labels.device)
        return labels, (chance * self.counts[labels]).long()

    def update(self):
        """Eq. 15 and 16, with Adam and the cosine schedule of section 4.1.4."""
        phase = min(self.updates / self.horizon, 1.0)
        rate = 0.5 * self.settings.learning_rate * (1 + math.cos(math.pi * phase))
        self.optimizer.param_groups[0]["lr"] = rate
        labels, places = self.draw()
        tokens, keys = self.tokens[labels, places], self.keys[labels, places]
        logits = self.logits(tokens, keys, *self.refined())
        self.optimizer.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        self.optimizer.step()
        self.updates += 1
