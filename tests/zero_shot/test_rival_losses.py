"""Losses of the rival methods against PyTorch: values and gradients; sizes as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot import cada_vae, jpose, neuron, revise, sa_dvae, smie, star, synse
from dynapurls_jax.zero_shot.base import ClassText, Shapes, unit
from dynapurls_jax.zero_shot.nn import vae

B, S, N, C, D = 6, 2, 5, 4, 7
LABELS = np.array([0, 1, 2, 3, 0, 2])
SHAPES = Shapes(KINECT_V1, (1, S, N), D)
STEP = 3 * 1700 + 1600  # of the fourth cycle: all terms are on
KEY = jax.random.key(3)


def inputs():
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.normal(size=(B, S, N)), jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(C, 8, D)), jnp.float32))
    words = np.array(unit(jnp.asarray(rng.normal(size=(C, 2, D)), jnp.float32)))
    words[1, 0] = words[0, 0]  # two classes with the same verb
    words[2, 1] = 0  # a noun that the text encoder does not know
    return tokens, ClassText(text, words=jnp.asarray(words))


def fresh(module, settings, text):
    """A method with its variables; biases are random, too."""
    tokens, described = inputs()
    text = described if text == "words" else described.text
    method = module.make(settings, SHAPES)
    variables = method.init(jax.random.key(1), tokens, text)
    leaves, tree = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(1)
    leaves = [leaf + jnp.asarray(0.1 * rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves]
    variables["params"] = jax.tree.unflatten(tree, leaves)
    return method, variables, tokens, text


def check(module, settings, reference, text="text", step=STEP):
    """Compares the loss and all its gradients with a function of torch tensors."""
    method, variables, tokens, text = fresh(module, settings, text)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        both = {**variables, "params": params}
        return method.loss(both, (tokens, jnp.asarray(LABELS)), text, KEY, jnp.int32(step))

    value, grads = loss(variables["params"])
    params = jax.tree.map(
        lambda leaf: torch.tensor(np.array(leaf), dtype=torch.float64, requires_grad=True),
        variables["params"],
    )
    clips = np.asarray(tokens, np.float64).mean(axis=1)
    clips = (clips - clips.mean(axis=0)) / (clips.std(axis=0) + 1e-3)
    words = text.words if isinstance(text, ClassText) else text[:, :2]
    rows = text.text if isinstance(text, ClassText) else text
    as_torch = [torch.tensor(np.array(a, np.float64)) for a in (clips, rows[:, 0], words)]
    expected = reference(params, *as_torch, torch.tensor(LABELS))
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-4)
    for (path, grad), tensor in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(params), strict=True
    ):
        want = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(grad, want, rtol=2e-3, atol=2e-5, err_msg=str(path))


def linear(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def layers_of(network):
    return [network[f"layer{number}"] for number in range(len(network))]


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
        first, second = layers_of(p["text_decoder"])
        text_rebuilt = linear(second, torch.relu(linear(first, of_text)))
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


def smie_loss(shape, settings, tokens, text, key=KEY):
    method = smie.make(smie.SmieSettings(hidden=8, **settings), Shapes(KINECT_V1, shape, D))
    batch = jnp.asarray(tokens), jnp.asarray(LABELS)
    variables = method.init(jax.random.key(1), batch[0], text)
    return variables, float(method.loss(variables, batch, text, key, jnp.int32(0)))


def test_temporal_constraint_of_smie():
    shape, rng = (10, S, N), np.random.default_rng(2)
    tokens = rng.normal(size=(B, 10 * S, N)).astype(np.float32)
    text = inputs()[1].text
    variables, plain = smie_loss(shape, {}, tokens, text)
    _, found = smie_loss(shape, {"constraint": 0.5, "margin": 2.0}, tokens, text)
    known = jax.tree.map(np.asarray, variables["features"])
    layers = [
        jax.tree.map(np.asarray, layer) for layer in layers_of(variables["params"]["network"])
    ]
    draws, pooled = np.asarray(jax.random.uniform(KEY, (B, 10))), []
    for b, clip in enumerate(tokens.reshape(B, 10, S, N)):
        motion = [
            sum(((clip[t] - clip[u]) ** 2).mean() for u in (t - 1, t + 1) if 0 <= u < 10)
            for t in range(10)
        ]
        still = np.sort(np.argsort(motion)[:7])
        kept = still[np.argsort(draws[b, still])[:4]]
        pooled.append(clip[kept].reshape(-1, N).mean(axis=0))

    def positive(x):
        """The mean of softplus(-D) of the clips and their texts."""
        x = (x - known["mean"]) / known["std"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        h = np.concatenate([x, np.asarray(text)[LABELS, 0]], axis=-1)
        for layer in layers[:-1]:
            h = np.maximum(0, linear(layer, h))
        return np.log1p(np.exp(-linear(layers[-1], h))).mean()

    lost = positive(np.stack(pooled)) - positive(tokens.mean(axis=1))
    assert lost < 2.0
    assert found == pytest.approx(plain + 0.5 * (2.0 - lost), rel=1e-5)


def test_without_its_constraint_smie_takes_tokens_of_any_shape_and_no_noise():
    tokens, described = inputs()
    losses = {
        smie_loss(shape, {"constraint": 0.0, "margin": margin}, tokens, described.text, key)[1]
        for shape, margin, key in [((1, S, N), 0.1, KEY), ((7, 9, N), 3.0, jax.random.key(8))]
    }
    assert len(losses) == 1


def test_the_constraint_of_smie_needs_pooled_features_of_three_segments():
    with pytest.raises(ValueError, match='needs features "mean", not "tokens"'):
        smie.SmieSettings(features="tokens", constraint=0.5)
    with pytest.raises(ValueError, match="needs 3 segments of time or more, not 1"):
        smie.make(smie.SmieSettings(constraint=0.5), SHAPES)


def gaussian(p, x):
    return linear(p["mean"], x), linear(p["log_variance"], x)


def draws(key, shapes):
    """The noise that a loss draws, in its order."""
    found = [jax.random.normal(jax.random.fold_in(key, n), s) for n, s in enumerate(shapes)]
    return [torch.tensor(np.array(noise, np.float64)) for noise in found]


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
            first, second = layers_of(d)
            return linear(second, torch.relu(linear(first, torch.cat([z, style], -1))))

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


@pytest.mark.parametrize(
    ("module", "settings", "width", "count"),
    [
        (revise, revise.ReviseSettings(), 1024, 1_214_780),
        (jpose, jpose.JposeSettings(), 1024, 1_136_700),
        (cada_vae, cada_vae.CadaVaeSettings(), 1024, 385_680),
        (cada_vae, cada_vae.CadaVaeSettings(latent=200), 1024, 770_080),
        (synse, synse.SynseSettings(), 1024, 386_704),
        (synse, synse.SynseSettings(latent=200), 1024, 771_104),
        (sa_dvae, sa_dvae.SaDvaeSettings(), 1024, 629_621),
        (sa_dvae, sa_dvae.SaDvaeSettings(semantic=256, style=32), 1024, 1_030_865),
        (sa_dvae, sa_dvae.SaDvaeSettings(semantic=128, style=16), 512, 313_769),
        (smie, smie.SmieSettings(), 768, 1_574_913),
        (neuron, neuron.NeuronSettings(), 768, 2_014_720),
    ],
)
def test_parameters_are_as_many_as_published(module, settings, width, count):
    shapes = Shapes(KINECT_V1, (1, 1, 256), width)
    text = ClassText(*(jax.ShapeDtypeStruct((3, *s, width), np.float32) for s in ((8,),)))
    text = text._replace(words=jax.ShapeDtypeStruct((3, 2, width), np.float32))
    tokens = jax.ShapeDtypeStruct((4, 1, 256), np.float32)
    init = module.make(settings, shapes).init
    params = jax.eval_shape(init, jax.random.key(0), tokens, text)["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


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
        label = mlp_of(p["label"], text[:, 0])
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
            e = mlp_of(q["network"], gathered.transpose(0, 1))
            found.append(torch.einsum("pi,ij,bpj->bp", q["prompts"], q["product"], e))
            texts.append(mlp_of(q["text"], text[:, 1 + number] + q["offset"]))
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


def mlp_of(network, x):
    """A hidden layer with ReLU, and a linear one."""
    first, second = layers_of(network)
    return linear(second, torch.relu(linear(first, x)))


def check_cube(module, settings, reference):
    """As `check`, for methods of `[B, T', V, n]`; text has a width of 8."""
    rng = np.random.default_rng(0)
    joints = KINECT_V1.num_joints
    shapes = Shapes(KINECT_V1, (3, joints, N), 8)
    tokens = rng.normal(size=(B, 3 * joints, N)).astype(np.float32)
    text = np.asarray(unit(jnp.asarray(rng.normal(size=(C, 8, 8)), jnp.float32)))
    method = module.make(settings, shapes)
    variables = method.init(jax.random.key(1), jnp.asarray(tokens), jnp.asarray(text))
    params = jax.tree.map(
        lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32), variables["params"]
    )

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        both, batch = {**variables, "params": params}, (jnp.asarray(tokens), jnp.asarray(LABELS))
        return method.loss(both, batch, jnp.asarray(text), KEY, jnp.int32(0))

    value, grads = loss(params)
    mean, std = tokens.reshape(-1, N).mean(axis=0), tokens.reshape(-1, N).std(axis=0) + 1e-3
    cube = torch.tensor(((tokens - mean) / std).reshape(B, 3, joints, N).astype(np.float64))
    as_torch = jax.tree.map(
        lambda a: torch.tensor(np.array(a, np.float64), requires_grad=True), params
    )
    expected = reference(
        as_torch, cube, torch.tensor(text.astype(np.float64)), torch.tensor(LABELS)
    )
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-4)
    for (path, grad), tensor in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(as_torch), strict=True
    ):
        want = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(grad, want, rtol=2e-3, atol=2e-5, err_msg=str(path))
