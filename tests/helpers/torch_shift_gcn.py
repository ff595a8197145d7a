"""Shift-GCN in PyTorch, written from the paper and the tensor names of the published checkpoints.

The reference of the parity tests and of `scripts/benchmarks/encoder.py`. The layout is that of the
published network, `[N, C, T, V]`. The temporal shift, a CUDA kernel in the published code, is two
lookups of whole rows, one of the two fastest implementations tried in eager PyTorch on a CPU.
"""

import torch
from torch import nn

LAYERS = ((1, 1),) * 4 + ((2, 2), (2, 1), (2, 1)) + ((4, 2), (4, 1), (4, 1))


class TemporalShift(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.stride = stride
        self.xpos = nn.Parameter(torch.zeros(channels))  # the published kernel's other axis
        self.ypos = nn.Parameter(torch.empty(channels).uniform_(-1, 1))

    def forward(self, x):
        n, c, t, v = x.shape
        steps = torch.arange(t // self.stride, device=x.device)
        place = self.stride * steps + 0.5 * (self.stride - 1) + self.ypos[:, None]
        low = place.detach().floor()
        share = place - low

        def rows(frame, weight):
            inside = (frame >= 0) & (frame < t)
            first = t * torch.arange(c, device=x.device)[:, None]
            index = (first + frame.clamp(0, t - 1)).reshape(-1)
            taken = x.reshape(n, c * t, v).index_select(1, index).view(n, c, -1, v)
            return taken * (weight * inside)[..., None].to(x.dtype)

        low = low.long()
        return rows(low, 1 - share) + rows(low + 1, share)


class Spatial(nn.Module):
    def __init__(self, before, after, joints):
        super().__init__()
        self.Linear_weight = nn.Parameter(torch.randn(before, after) * after**-0.5)
        self.Linear_bias = nn.Parameter(torch.zeros(1, 1, after))
        self.Feature_Mask = nn.Parameter(torch.zeros(1, joints, before))
        self.bn = nn.BatchNorm1d(joints * after)
        self.down = nn.Identity()
        if before != after:
            self.down = nn.Sequential(nn.Conv2d(before, after, 1), nn.BatchNorm2d(after))
        for name, channels, sign in (("shift_in", before, 1), ("shift_out", after, -1)):
            joint, channel = torch.arange(joints)[:, None], torch.arange(channels)
            table = ((joint + sign * channel) % joints) * channels + channel
            self.register_buffer(name, table.reshape(-1))

    def forward(self, x):
        n, c, t, v = x.shape
        y = x.permute(0, 2, 3, 1).reshape(n * t, v * c).index_select(1, self.shift_in)
        y = y.view(n * t, v, c) * (torch.tanh(self.Feature_Mask) + 1)
        y = y @ self.Linear_weight + self.Linear_bias
        y = self.bn(y.reshape(n * t, -1).index_select(1, self.shift_out))
        return torch.relu(y.view(n, t, v, -1).permute(0, 3, 1, 2) + self.down(x))


class Temporal(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.bn, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.shift_in = TemporalShift(channels, 1)
        self.shift_out = TemporalShift(channels, stride)
        self.temporal_linear = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = torch.relu(self.temporal_linear(self.shift_in(self.bn(x))))
        return self.bn2(self.shift_out(y))


class Residual(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1, stride=(stride, 1))
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x):
        return self.bn(self.conv(x))


class Layer(nn.Module):
    def __init__(self, before, after, joints, stride, first):
        super().__init__()
        self.gcn1 = Spatial(before, after, joints)
        self.tcn1 = Temporal(after, stride)
        self.residual = None
        if not first:
            changes = before != after or stride != 1
            self.residual = Residual(before, after, stride) if changes else nn.Identity()

    def forward(self, x):
        y = self.tcn1(self.gcn1(x))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class TorchShiftGCN(nn.Module):
    """Clips `[N, C, T, V, M]` to logits; absent persons count, as in the published network."""

    def __init__(self, num_classes, width=64, joints=25, persons=2):
        super().__init__()
        self.data_bn = nn.BatchNorm1d(persons * joints * 3)
        before = 3
        for index, (multiple, stride) in enumerate(LAYERS):
            layer = Layer(before, width * multiple, joints, stride, index == 0)
            setattr(self, f"l{index + 1}", layer)
            before = width * multiple
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x):
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for index in range(len(LAYERS)):
            x = getattr(self, f"l{index + 1}")(x)
        return self.fc(x.view(n, m, x.shape[1], -1).mean(3).mean(1))
