"""Losses of SA-DVAE, SMIE and ReViSE in plain PyTorch, for `methods.py`.

Each module holds copies of a JAX method's parameters. Its `forward` takes standardised clips
`[B, n]`, labels `[B]` and the number of the step, and gathers the text of each clip first, as the
published code does.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def linear(layer: dict) -> nn.Linear:
    """A layer with the parameters of a dense layer of JAX."""
    kernel, bias = np.array(layer["kernel"]), np.array(layer["bias"])
    made = nn.Linear(*kernel.shape)
    made.weight.data, made.bias.data = torch.tensor(kernel.T).contiguous(), torch.tensor(bias)
    return made


def network(layers: dict, *activations: nn.Module) -> nn.Sequential:
    """Layers, each with its activation; the last may have none."""
    parts: list[nn.Module] = []
    for number in range(len(layers)):
        parts += [linear(layers[f"layer{number}"]), *activations[number : number + 1]]
    return nn.Sequential(*parts)


class Smie(nn.Module):
    """Minus the estimate of mutual information."""

    def __init__(self, settings, params: dict, text: torch.Tensor):
        super().__init__()
        self.text, self.score = text, network(params["network"], nn.ReLU(), nn.ReLU())

    def forward(self, x, y, step):
        x, t = functional.layer_norm(x, x.shape[-1:]), self.text[y]
        positive = self.score(torch.cat([x, t], -1))
        negative = self.score(torch.cat([x.roll(-1, 0), t], -1))
        return functional.softplus(-positive).mean() + functional.softplus(negative).mean()


class Revise(nn.Module):
    """Hinge, reconstructions, discrepancy and contraction."""

    def __init__(self, settings, params: dict, text: torch.Tensor):
        super().__init__()
        relu, tanh = nn.ReLU(), nn.Tanh()
        self.settings, self.text = settings, text
        self.encoder = network(params["encoder"], relu)
        self.decoder = network(params["decoder"])
        self.map = network(params["map"], tanh)
        self.text_encoder = network(params["text_encoder"], relu, relu)
        self.text_decoder = network(params["text_decoder"], relu)
        self.text_map = network(params["text_map"], tanh)

    def forward(self, x, y, step):
        settings, t = self.settings, self.text[y]
        h, of_class = self.encoder(x), self.text_encoder(self.text)
        of_clip = self.text_encoder(t)
        slope = (h > 0).float() @ self.encoder[0].weight
        return (
            self.hinge(self.map(h), self.text_map(of_clip), self.text_map(of_class))
            + functional.mse_loss(self.decoder(h), x)
            + functional.mse_loss(self.text_decoder(of_clip), t)
            + self.discrepancy(h, of_clip)
            + settings.contraction * slope.norm()
        )

    def hinge(self, x, own, classes):
        """Of all classes against the own one."""
        true = (x * own).sum(-1, keepdim=True)
        gaps = x @ classes.detach().T - true + self.settings.margin
        return gaps.clamp(min=0).sum(-1).mean()

    def discrepancy(self, a, b):
        """Squared maximum mean discrepancy over all pairs."""

        def kernel(u, v):
            squares = (u * u).sum(-1)[:, None] + (v * v).sum(-1) - 2 * u @ v.T
            return torch.exp(-self.settings.bandwidth * squares.clamp(min=0)).mean()

        return kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)


class SaDvae(nn.Module):
    """Two autoencoders with crossed reconstruction, and the discriminator."""

    def __init__(self, settings, params: dict, text: torch.Tensor):
        super().__init__()
        self.settings, self.text = settings, text
        self.clip, self.described = (
            nn.ModuleDict({name: linear(layer) for name, layer in params[side].items()})
            for side in ("clip", "text")
        )
        self.discriminator = network(params["discriminator"], nn.ReLU())
        self.noise, self.order = torch.randn_like, torch.randperm  # replaced by the check

    def forward(self, x, y, step):
        t, first, late = self.text[y], *self.weights(step)
        mean, log_variance, both = self.drawn(self.clip, x)
        mean_t, log_variance_t, z_t = self.drawn(self.described, t)
        z, style = both.split([self.settings.semantic, self.settings.style], -1)

        def error(side, latent, target):
            return functional.mse_loss(side["decoder"](latent), target)

        own = error(self.clip, both, x) + error(self.described, z_t, t)
        crossed = error(self.clip, torch.cat([z_t, style], -1), x) + error(self.described, z, t)
        prior = first * divergence(mean, log_variance) + late * divergence(mean_t, log_variance_t)
        self.discriminator.requires_grad_(False)
        independent = torch.sigmoid(self.discriminator(torch.cat([z, style], -1))).mean()
        self.discriminator.requires_grad_(True)
        rows = self.order(len(x)), self.order(len(x))
        parts = z.detach(), z_t.detach()
        told = sum(self.discrimination(part, style.detach(), rows) for part in parts) / 2
        return own + prior + float(late > 0) * crossed + late * (independent + told)

    def weights(self, step):
        """Of the terms from 1000 / 1700 and from 1400 / 1700 of a cycle."""
        place = step % self.settings.cycle / self.settings.cycle
        rate = 0.1 * 1700 / 3000
        return rate * max(0.0, place - 1000 / 1700), rate * max(0.0, place - 1400 / 1700)

    def drawn(self, side, x):
        """Mean, log variance and one draw."""
        mean, log_variance = side["mean"](x), side["log_variance"](x)
        return mean, log_variance, mean + torch.exp(0.5 * log_variance) * self.noise(mean)

    def discrimination(self, part, style, rows):
        """The loss of the discriminator on the pairs of one latent vector."""
        real = self.discriminator(torch.cat([part, style], -1))
        fake = self.discriminator(torch.cat([part[rows[0]], style[rows[1]]], -1))
        bce = functional.binary_cross_entropy_with_logits
        return (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))) / 2


def divergence(mean, log_variance):
    """Kullback-Leibler divergence from the standard normal, the mean over rows."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean()
