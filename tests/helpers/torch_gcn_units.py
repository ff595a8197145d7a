"""Spatial and temporal units of graph networks in PyTorch, for `torch_gcns.py`."""

import torch
from torch import nn


def point(before, after, stride=1):
    """A 1x1 convolution."""
    return nn.Conv2d(before, after, 1, stride=(stride, 1))


def frames(before, after, size, stride=1, dilation=1):
    """A convolution over frames."""
    margin = dilation * (size - 1) // 2
    return nn.Conv2d(before, after, (size, 1), (stride, 1), (margin, 0), (dilation, 1))


def down(before, after):
    """The map beside a spatial unit."""
    if before == after:
        return nn.Identity()
    return nn.Sequential(point(before, after), nn.BatchNorm2d(after))


class Convolved(nn.Module):
    """A convolution over frames, normalised unless it is `bare`."""

    def __init__(self, before, after, size, stride=1, dilation=1, bare=False):
        super().__init__()
        self.conv = frames(before, after, size, stride, dilation)
        self.bn = nn.Identity() if bare else nn.BatchNorm2d(after)

    def forward(self, x):
        return self.bn(self.conv(x))


class Agcn(nn.Module):
    """Bones, a learned graph, and a softmax of similarities."""

    def __init__(self, before, after, bones):
        super().__init__()
        subsets = len(bones)
        self.bones = bones
        self.PA = nn.Parameter(torch.full_like(bones, 1e-6))
        self.conv_a, self.conv_b, self.conv_d = (
            nn.ModuleList(point(before, width) for _ in range(subsets))
            for width in (after // 4, after // 4, after)
        )
        self.down, self.bn = down(before, after), nn.BatchNorm2d(after)

    def graph(self, k, similarity):
        return self.bones[k].to(similarity) + self.PA[k] + similarity.softmax(dim=1)

    def forward(self, x):
        y = 0
        for k in range(len(self.bones)):
            theta, phi = self.conv_a[k](x), self.conv_b[k](x)
            size = theta.shape[1] * theta.shape[2]
            graph = self.graph(k, torch.einsum("nctv,nctw->nvw", theta, phi) / size)
            y = y + self.conv_d[k](torch.einsum("nctv,nvw->nctw", x, graph))
        return torch.relu(self.bn(y) + self.down(x))


class Aagcn(Agcn):
    """A learned graph and scaled similarities, then gates of joints, frames and channels."""

    def __init__(self, before, after, bones):
        super().__init__(before, after, bones)
        self.PA.data, self.alpha = bones.clone(), nn.Parameter(torch.zeros(1))
        joints = bones.shape[-1]
        size = joints if joints % 2 else joints - 1
        self.conv_sa = nn.Conv1d(after, 1, size, padding=(size - 1) // 2)
        self.conv_ta = nn.Conv1d(after, 1, 9, padding=4)
        self.fc1c, self.fc2c = nn.Linear(after, after // 2), nn.Linear(after // 2, after)

    def graph(self, k, similarity):
        return self.PA[k] + self.alpha * similarity.tanh()

    def forward(self, x):
        y = super().forward(x)
        y = y * (1 + self.conv_sa(y.mean(2)).sigmoid()[:, :, None, :])
        y = y * (1 + self.conv_ta(y.mean(3)).sigmoid()[:, :, :, None])
        gate = self.fc2c(torch.relu(self.fc1c(y.mean((2, 3))))).sigmoid()
        return y * (1 + gate[:, :, None, None])


class Relation(nn.Module):
    """One subset of CTR-GCN; `pyskl` sums over the other joint axis of the graph."""

    def __init__(self, before, after, pyskl):
        super().__init__()
        reduced = 8 if before <= 16 else before // 8
        self.conv1, self.conv2 = point(before, reduced), point(before, reduced)
        self.conv3, self.conv4 = point(before, after), point(reduced, after)
        self.sum = "ncuv,nctu->nctv" if pyskl else "ncuv,nctv->nctu"

    def forward(self, x, bones, alpha):
        a, b = self.conv1(x).mean(2), self.conv2(x).mean(2)
        graph = alpha * self.conv4((a[..., :, None] - b[..., None, :]).tanh()) + bones
        return torch.einsum(self.sum, graph, self.conv3(x))


class CtrGcn(nn.Module):
    def __init__(self, before, after, bones, pyskl=False):
        super().__init__()
        self.PA, self.alpha = nn.Parameter(bones.clone()), nn.Parameter(torch.zeros(1))
        self.convs = nn.ModuleList(Relation(before, after, pyskl) for _ in bones)
        self.down, self.bn = down(before, after), nn.BatchNorm2d(after)

    def forward(self, x):
        y = sum(c(x, bones, self.alpha) for c, bones in zip(self.convs, self.PA, strict=True))
        return torch.relu(self.bn(y) + self.down(x))


class MultiScale(nn.Module):
    """Of CTR-GCN; a ReLU follows in `pyskl`."""

    def __init__(self, width, stride, pyskl=False):
        super().__init__()
        part, self.pyskl = width // 4, pyskl

        def branch(*last):
            return nn.Sequential(point(width, part), nn.BatchNorm2d(part), nn.ReLU(), *last)

        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        plain = nn.Sequential(point(width, part, stride), nn.BatchNorm2d(part))
        convolved = [branch(Convolved(part, part, 5, stride, dilation)) for dilation in (1, 2)]
        pooled = branch(pool, nn.BatchNorm2d(part))
        self.branches = nn.ModuleList([*convolved, pooled, plain])

    def forward(self, x):
        y = torch.cat([branch(x) for branch in self.branches], 1)
        return torch.relu(y) if self.pyskl else y


class DgGcn(nn.Module):
    """Eight learned graphs, refined by channel and by group."""

    def __init__(self, before, after, bones):
        super().__init__()
        joints, wide = bones.shape[-1], 8 * int(0.125 * after)
        self.A = nn.Parameter(0.04 + 0.02 * torch.randn(8, joints, joints))
        self.alpha, self.beta = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))
        self.pre = nn.Sequential(point(before, wide), nn.BatchNorm2d(wide), nn.ReLU())
        self.conv1, self.conv2 = point(before, wide), point(before, wide)
        self.post = point(wide, after)
        self.down, self.bn = down(before, after), nn.BatchNorm2d(after)

    def forward(self, x):
        n, _, _, joints = x.shape
        still = x.mean(2, keepdim=True)
        a, b = (conv(still).view(n, 8, -1, joints) for conv in (self.conv1, self.conv2))
        own = (a[..., :, None] - b[..., None, :]).tanh()
        shared = torch.einsum("nkcv,nkcw->nkvw", a, b).softmax(2)[:, :, None]
        graph = self.A[:, None] + self.alpha[0] * own + self.beta[0] * shared
        pre = self.pre(x).view(n, 8, -1, x.shape[2], joints)
        y = torch.einsum("nkctv,nkcvw->nkctw", pre, graph).flatten(1, 2)
        return torch.relu(self.bn(self.post(y)) + self.down(x))


class DgMultiScale(nn.Module):
    """Six branches of the joints and of the mean joint."""

    def __init__(self, width, stride, joints):
        super().__init__()
        part = width // 6
        first = width - 5 * part
        self.add_coeff = nn.Parameter(torch.zeros(joints))

        def branch(part, last):
            return nn.Sequential(point(width, part), nn.BatchNorm2d(part), nn.ReLU(), last)

        self.branches = nn.ModuleList(
            branch(wide, Convolved(wide, wide, 3, stride, dilation, bare=True))
            for dilation, wide in zip((1, 2, 3, 4), (first, part, part, part), strict=True)
        )
        self.branches.append(branch(part, nn.MaxPool2d((3, 1), (stride, 1), (1, 0))))
        self.branches.append(point(width, part, stride))
        self.transform = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), point(width, width))
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        x = torch.cat([x, x.mean(3, keepdim=True)], 3)
        y = torch.cat([branch(x) for branch in self.branches], 1)
        return self.bn(self.transform(y[..., :-1] + self.add_coeff * y[..., -1:]))
