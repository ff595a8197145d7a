"""PoseC3D's network in PyTorch with three-dimensional convolutions, the reference of its tests."""

import torch
from torch import nn

STAGES = ((1, 1, 1), (2, 3, 1), (4, 3, 2))  # width multiple, temporal kernel, temporal stride


class Layer(nn.Sequential):
    """A convolution that keeps the shape up to its stride, and batch normalisation."""

    def __init__(self, before, after, kernel=(1, 1, 1), stride=(1, 1, 1)):
        padding = tuple(extent // 2 for extent in kernel)
        convolution = nn.Conv3d(before, after, kernel, stride, padding, bias=False)
        super().__init__(convolution, nn.BatchNorm3d(after))


class Block(nn.Module):
    def __init__(self, before, planes, time, stride):
        super().__init__()
        self.time = Layer(before, planes, (time, 1, 1))
        self.space = Layer(planes, planes, (1, 3, 3), stride)
        self.expand = Layer(planes, 4 * planes)
        changes = stride != (1, 1, 1) or before != 4 * planes
        self.shortcut = Layer(before, 4 * planes, stride=stride) if changes else nn.Identity()

    def forward(self, x):
        y = self.expand(torch.relu(self.space(torch.relu(self.time(x)))))
        return torch.relu(y + self.shortcut(x))


class TorchSlowOnly(nn.Module):
    """Heatmaps `[B, V, F, H, W]` to features of the stem and of each block, by their names."""

    def __init__(self, joints, width, blocks):
        super().__init__()
        self.stem = Layer(joints, width, (1, 7, 7))
        self.blocks = nn.ModuleDict()
        before = width
        for stage, (multiple, time, stride) in enumerate(STAGES):
            for n in range(blocks[stage]):
                strides = (stride, 2, 2) if n == 0 else (1, 1, 1)
                planes = width * multiple
                self.blocks[f"stage{stage}_{n}"] = Block(before, planes, time, strides)
                before = 4 * planes

    def forward(self, x):
        x = torch.relu(self.stem(x))
        found = {"stem": x}
        x = torch.max_pool3d(x, (1, 3, 3), 1, (0, 1, 1))
        for name, block in self.blocks.items():
            x = found[name] = block(x)
        return found

    def random(self):
        """The network in float64, in which no parameter or statistic has its initial value."""
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            if "running_var" in name:
                nn.init.uniform_(tensor, 0.5, 2)
            elif tensor.ndim == 1:
                nn.init.normal_(tensor)
        return self.double()

    def tree(self, leaf_of):
        """Parameters and statistics in the layout of Flax, with `leaf_of(tensor)` as leaves.

        Without statistics if the leaf of one is None.
        """
        params, stats = {}, {}

        def layer(module):
            convolution, norm = module
            kernel = leaf_of(convolution.weight)
            # [out, in, t, h, w]; one of t and h, w is 1.
            kernel = kernel[:, :, :, :, 0] if kernel.shape[2] > 1 else kernel[:, :, 0]
            own = {
                "convolution": {"kernel": kernel.transpose(2, 3, 1, 0)},
                "norm": {"scale": leaf_of(norm.weight), "bias": leaf_of(norm.bias)},
            }
            return own, {"norm": {"mean": norm.running_mean, "var": norm.running_var}}

        params["stem"], stats["stem"] = layer(self.stem)
        for name, block in self.blocks.items():
            layers = {key: layer(m) for key, m in block.named_children() if isinstance(m, Layer)}
            params[name] = {key: own for key, (own, _) in layers.items()}
            stats[name] = {key: own for key, (_, own) in layers.items()}
        return params, stats
