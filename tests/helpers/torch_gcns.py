"""Graph networks in PyTorch, written from the papers and the tensor names of published checkpoints.

The references of the parity tests and of `scripts/benchmarks/encoders.py`. The layout is that of
the published networks, `[N, C, T, V]`. Names are those of the official repositories; DG-STGCN's
are those of PYSKL, where it was published.
"""

import re
from itertools import pairwise

import torch
from torch import nn

from tests.helpers.torch_gcn_units import (
    Aagcn,
    Agcn,
    Convolved,
    CtrGcn,
    DgGcn,
    DgMultiScale,
    MultiScale,
    frames,
    point,
)

LAYERS = ((1, 1),) * 4 + ((2, 2), (2, 1), (2, 1)) + ((4, 2), (4, 1), (4, 1))


class Layer(nn.Module):
    """A spatial unit, a temporal unit, the residual."""

    def __init__(self, spatial, temporal, before, after, stride, *, first, names):
        super().__init__()
        self.names, self.first = names, first
        setattr(self, names[0], spatial(before, after))
        setattr(self, names[1], temporal(after, stride))
        changes = before != after or stride != 1
        self.residual = (
            Convolved(before, after, 1, stride) if changes and not first else nn.Identity()
        )

    def forward(self, x):
        spatial, temporal = (getattr(self, name) for name in self.names)
        y = temporal(spatial(x))
        return torch.relu(y if self.first else y + self.residual(x))


class StgcnLayer(nn.Module):
    """Of ST-GCN, without dropout."""

    def __init__(self, before, after, stride, first):
        super().__init__()
        self.first, self.gcn = first, nn.ModuleDict({"conv": point(before, 3 * after)})
        relu, conv = nn.ReLU(), frames(after, after, 9, stride)
        self.tcn = nn.Sequential(nn.BatchNorm2d(after), relu, conv, nn.BatchNorm2d(after))
        changes = before != after or stride != 1
        mapped = nn.Sequential(point(before, after, stride), nn.BatchNorm2d(after))
        self.residual = mapped if changes and not first else nn.Identity()

    def forward(self, x, graph):
        y = self.gcn["conv"](x).unflatten(1, (3, -1))
        y = self.tcn(torch.einsum("nkctv,kvw->nctw", y, graph))
        return torch.relu(y if self.first else y + self.residual(x))


class TorchGcn(nn.Module):
    """Clips `[N, C, T, V, M]` to logits; absent persons count, as in the published networks.

    Args:
      kind: name of the encoder; "ctr_gcn_pyskl" is PYSKL's variant of CTR-GCN.
      bones: `[3, V, V]`, float; ST-GCN's own for "stgcn".
    """

    def __init__(self, kind, bones, classes=60, width=64, layers=LAYERS, *, persons=2, channels=3):
        super().__init__()
        self.kind, joints = kind, bones.shape[-1]
        self.per_slot = kind not in ("stgcn", "dg_stgcn")
        self.data_bn = nn.BatchNorm1d((persons if self.per_slot else 1) * joints * channels)
        pyskl = kind == "ctr_gcn_pyskl"
        spatial = {
            "agcn": lambda *a: Agcn(*a, bones),
            "aagcn": lambda *a: Aagcn(*a, bones),
            "dg_stgcn": lambda *a: DgGcn(*a, bones),
        }.get(kind, lambda *a: CtrGcn(*a, bones, pyskl))
        temporal = {
            "agcn": lambda width, stride: Convolved(width, width, 9, stride),
            "aagcn": lambda width, stride: Convolved(width, width, 9, stride),
            "dg_stgcn": lambda *a: DgMultiScale(*a, joints),
        }.get(kind, lambda *a: MultiScale(*a, pyskl))
        widths = [channels, *(width * multiple for multiple, _ in layers)]
        made = []
        for i, (before, after) in enumerate(pairwise(widths)):
            stride = layers[i][1]
            if kind == "stgcn":
                made.append(StgcnLayer(before, after, stride, i == 0))
            else:
                names = ("gcn", "tcn") if kind == "dg_stgcn" else ("gcn1", "tcn1")
                made.append(
                    Layer(spatial, temporal, before, after, stride, first=i == 0, names=names)
                )
        if kind == "stgcn":
            self.st_gcn_networks, self.fcn = nn.ModuleList(made), nn.Conv2d(widths[-1], classes, 1)
            self.edge_importance = nn.ParameterList(torch.ones_like(bones) for _ in made)
            self.register_buffer("A", bones.clone())
        elif kind == "dg_stgcn":
            self.gcn, self.fc = nn.ModuleList(made), nn.Linear(widths[-1], classes)
        else:
            for i, layer in enumerate(made):
                setattr(self, f"l{i + 1}", layer)
            self.fc = nn.Linear(widths[-1], classes)
        self.count = len(made)

    def layer(self, i):
        """Layer `i` as a function of features."""
        if self.kind == "stgcn":
            graph = self.A * self.edge_importance[i]
            return lambda x: self.st_gcn_networks[i](x, graph)
        return self.gcn[i] if self.kind == "dg_stgcn" else getattr(self, f"l{i + 1}")

    def features(self, x):
        """`[N M, C, T, V]`."""
        n, c, t, v, m = x.shape
        x = x.permute(0, 4, 3, 1, 2)
        x = self.data_bn(x.reshape(n if self.per_slot else n * m, -1, t))
        x = x.reshape(n * m, v, c, t).permute(0, 2, 3, 1)
        for i in range(self.count):
            x = self.layer(i)(x)
        return x

    def forward(self, x):
        pooled = self.features(x).unflatten(0, (len(x), -1)).mean((1, 3, 4))
        if self.kind == "stgcn":
            return self.fcn(pooled[..., None, None])[..., 0, 0]
        return self.fc(pooled)


def randomised(network):
    """The network with every parameter and statistic at a random value."""
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.normal_()
            elif "PA" in name or "edge_importance" in name or name.endswith(".A"):
                tensor.normal_().mul_(0.3)
    return network


def pyskl_names(kind, state):
    """A state dict of `TorchGcn` under the names of PYSKL, with its constant graphs."""
    layers = "backbone.net." if kind == "ctr_gcn" else "backbone.gcn."
    rules = {
        "ctr_gcn": [(r"\.PA$", ".A")],
        "aagcn": [(r"\.gcn1\.", ".gcn."), (r"\.tcn1\.", ".tcn."), (r"\.PA$", ".A")],
        "stgcn": [
            (r"^edge_importance\.(\d+)$", r"backbone.gcn.\1.gcn.PA"),
            (r"^st_gcn_networks\.", "backbone.gcn."),
            (r"\.tcn\.0\.", ".gcn.bn."),
            (r"\.tcn\.2\.", ".tcn.conv."),
            (r"\.tcn\.3\.", ".tcn.bn."),
            (r"\.residual\.0\.", ".residual.conv."),
            (r"\.residual\.1\.", ".residual.bn."),
        ],
        "dg_stgcn": [(r"^gcn\.", "backbone.gcn.")],
    }[kind]
    renamed = {}
    for name, array in state.items():
        name = re.sub(r"^l(\d+)\.", lambda m: f"{layers}{int(m[1]) - 1}.", name)
        name = re.sub(r"^fcn?\.", "cls_head.fc_cls.", name)
        name = re.sub(r"^(data_bn|A$)", r"backbone.\1", name)
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        renamed[name] = array
    if kind == "stgcn":
        graph, weight = renamed.pop("backbone.A"), "cls_head.fc_cls.weight"
        renamed |= {name[:-2] + "A": graph for name in renamed if name.endswith(".PA")}
        renamed[weight] = renamed[weight][:, :, 0, 0]
    return renamed
