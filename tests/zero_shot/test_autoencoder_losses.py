"""Losses of variational autoencoders against PyTorch, their annealing, and their classifiers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from dynapurls_jax.zero_shot import cada_vae, sa_dvae, synse
from dynapurls_jax.zero_shot.nn import vae
from tests.helpers.torch_losses import KEY, B, check, doubles, linear, two_layers


def gaussian(p, x):
    return linear(p["mean"], x), linear(p["log_variance"], x)


def draws(key, shapes):
    """The noise that a loss draws, in its order."""
    found = [jax.random.normal(jax.random.fold_in(key, n), s) for n, s in enumerate(shapes)]
    return [doubles(noise) for noise in found]


def kl(mean, log_variance):
    normal = torch.distributions.Normal
    mine = normal(mean, torch.exp(0.5 * log_variance))
    standard = normal(torch.zeros_like(mean), torch.ones_like(mean))
    return torch.distributions.kl_divergence(mine, standard).sum(-1).mean()


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, (0, 0, 0, 0)),
        (1000, (0, 0, 0, 0)),
        (1300, (0.01, 0, 0, 0)),
        (1600, (0.02, 0.1 * 200 / 3000, 1, 0)),
        (1700 + 1300, (0.01, 0, 0, 1)),
    ],
)
def test_annealing_is_the_published_one(step, expected):
    found = vae.weights_at(jnp.int32(step), 1700)
    np.testing.assert_allclose([float(part) for part in found], expected, atol=1e-6)


K1, K2 = 0.1 * 600 / 3000, 0.1 * 200 / 3000  # at `STEP`
mse = functional.mse_loss


@pytest.mark.slow
def test_cada_vae():
    def reference(p, x, t, words, y):
        (mu, lv), (mu_t, lv_t) = gaussian(p["clip"], x), gaussian(p["text"], t[y])
        noise, noise_t = draws(KEY, [(B, 4), (B, 4)])
        z, z_t = mu + torch.exp(lv / 2) * noise, mu_t + torch.exp(lv_t / 2) * noise_t
        x_of, t_of = (
            (lambda z: linear(p["clip"]["decoder"], z)),
            (lambda z: linear(p["text"]["decoder"], z)),
        )
        own = mse(x_of(z), x) + mse(t_of(z_t), t[y])
        crossed = mse(x_of(z_t), x) + mse(t_of(z), t[y])
        return own + crossed + K1 * (kl(mu, lv) + kl(mu_t, lv_t))

    check(cada_vae, cada_vae.CadaVaeSettings(latent=4), reference)


def test_synse():
    def reference(p, x, t, words, y):
        noun, verb = words[y, 1], words[y, 0]
        found = {"clip": x, "noun": noun, "verb": verb}
        found = {name: gaussian(p[name], given) for name, given in found.items()}
        noise = draws(KEY, [(B, 4), (B, 2), (B, 2)])
        z, z_n, z_v = (
            mu + torch.exp(lv / 2) * e for (mu, lv), e in zip(found.values(), noise, strict=True)
        )

        def error(name, latent, target):
            return mse(linear(p[name]["decoder"], latent), target)

        own = error("clip", z, x) + error("noun", z_n, noun) + error("verb", z_v, verb)
        crossed = error("noun", z[:, :2], noun) + error("verb", z[:, 2:], verb)
        crossed = crossed + error("clip", torch.cat([z_n, z_v], -1), x)
        prior = K1 * kl(*found["clip"]) + K2 * (kl(*found["noun"]) + kl(*found["verb"]))
        return own + crossed + prior

    check(synse, synse.SynseSettings(latent=4), reference, text="words")


@pytest.mark.slow
def test_sa_dvae():
    def reference(p, x, t, words, y):
        (mu, lv), (mu_t, lv_t) = gaussian(p["clip"], x), gaussian(p["text"], t[y])
        key_draw, key_pairs = jax.random.split(KEY)
        noise, noise_t = draws(key_draw, [(B, 8), (B, 5)])
        both, z_t = mu + torch.exp(lv / 2) * noise, mu_t + torch.exp(lv_t / 2) * noise_t
        z, style = both[:, :5], both[:, 5:]

        def error(name, latent, target):
            return mse(linear(p[name]["decoder"], latent), target)

        own = error("clip", both, x) + error("text", z_t, t[y])
        crossed = error("clip", torch.cat([z_t, style], -1), x) + error("text", z, t[y])

        def together(d, z, style):
            return two_layers(d, torch.cat([z, style], -1))

        d = p["discriminator"]
        fixed = jax.tree.map(lambda tensor: tensor.detach(), d)
        independent = torch.sigmoid(together(fixed, z, style)).mean()
        rows = [np.array(jax.random.permutation(k, B)) for k in jax.random.split(key_pairs)]
        bce, total = functional.binary_cross_entropy_with_logits, 0.0
        for part in (z.detach(), z_t.detach()):
            real = together(d, part, style.detach())
            fake = together(d, part[rows[0]], style.detach()[rows[1]])
            ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
            total = total + (bce(real, ones) + bce(fake, zeros)) / 4
        prior = K1 * kl(mu, lv) + K2 * kl(mu_t, lv_t)
        return own + crossed + prior + K2 * (independent + total)

    check(sa_dvae, sa_dvae.SaDvaeSettings(semantic=5, style=3), reference)


@pytest.mark.slow
def test_the_gaussian_classifier_is_bayes_rule_and_the_softmax_one_agrees_with_it():
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(3, 4)).astype(np.float32)
    latent = vae.Latent(jnp.asarray(centres), jnp.full((3, 4), -1.0))
    found = vae.class_scores(latent.mean, vae.classes_of(latent, "gaussian"), "gaussian")
    normal = torch.distributions.Normal(torch.tensor(centres), np.exp(-0.5))
    expected = normal.log_prob(torch.tensor(centres)[:, None]).sum(-1) + 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)
    other = vae.class_scores(latent.mean, vae.classes_of(latent, "softmax"), "softmax")
    np.testing.assert_array_equal(found.argmax(-1), other.argmax(-1))
