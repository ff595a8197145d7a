"""The closed-form methods against NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.ridge import MAPS, RidgeSettings, make, text_to_visual
from tests.helpers.small_model import unit_rows

N, S, WIDTH, SEEN, UNSEEN, D = 60, 4, 3, 6, 3, 5


def problem(seed=0):
    """Tokens of classes with different means, labels, and text of seen and unseen classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % SEEN
    centres = rng.normal(size=(SEEN, S, WIDTH))
    tokens = centres[labels] + 0.5 * rng.normal(size=(N, S, WIDTH))
    tokens[:, 0, 0] = 1.0  # a constant feature
    text = rng.normal(size=(SEEN + UNSEEN, 8, D))
    tokens, text = (jnp.asarray(array, jnp.float32) for array in (tokens, unit_rows(text)))
    return tokens, jnp.asarray(labels), text


def regularised(gram, ridge):
    return gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram))


def reference(settings, tokens, labels, text, test):
    """Cosines of test clips with the unseen classes, by definition."""
    tokens, labels, text, test = (np.asarray(array) for array in (tokens, labels, text, test))
    x = tokens.reshape(N, -1).astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    gain = np.where(std > 1e-6 * std.max(), 1 / np.maximum(std, 1e-12), 0)
    z = (x - mean) * gain
    _, sizes, axes = np.linalg.svd(z, full_matrices=False)
    count = min(settings.components, int((sizes > 1e-5 * sizes[0]).sum()))
    z = z @ axes[:count].T
    means = np.stack([z[labels == c].mean(axis=0) for c in range(SEEN)])
    residual = z - means[labels]
    covariance = residual.T @ residual / N
    isotropic = np.trace(covariance) / count * np.eye(count)
    covariance = (1 - settings.shrinkage) * covariance + settings.shrinkage * isotropic
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(values) @ vectors.T
    means = means @ whitening
    centre = means.mean(axis=0)

    def embed(tokens):
        standardised = (tokens.reshape(len(tokens), -1) - mean) * gain
        return standardised @ axes[:count].T @ whitening - centre

    flat = text.reshape(len(text), -1).astype(np.float64)
    flat = flat - flat[:SEEN].mean(axis=0)
    seen, unseen = flat[:SEEN], flat[SEEN:]
    clips, z = unit_rows(embed(test)), unit_rows(embed(tokens))
    if settings.map == "text_to_visual":
        kernel = regularised(seen @ seen.T, settings.text_ridge)
        classes = unseen @ seen.T @ np.linalg.solve(kernel, means - centre)
    elif settings.map == "visual_to_text":
        gram = regularised(z.T @ z, settings.visual_ridge)
        clips = unit_rows(clips @ np.linalg.solve(gram, z.T @ unit_rows(seen)[labels]))
        classes = unseen
    else:
        signs = 2.0 * (labels[:, None] == np.arange(SEEN)) - 1
        left = np.linalg.solve(regularised(z.T @ z, settings.visual_ridge), z.T @ signs)
        kernel = regularised(seen @ seen.T, settings.text_ridge)
        classes = (left @ np.linalg.solve(kernel, seen @ unseen.T)).T
    return clips @ unit_rows(classes).T


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("components", [4, 100])
def test_scores_equal_the_definition(name, components):
    settings = RidgeSettings(map=name, components=components, scale=2.0)
    tokens, labels, text = problem()
    test = problem(seed=1)[0][:7]
    method = make(settings, Shapes(KINECT_V1, (1, S, WIDTH), D))
    fit = jax.jit(method.fit)
    variables = fit(jax.random.key(0), tokens, labels, text[:SEEN])
    candidates = method.bind(variables, text[SEEN:])
    logits = method.score(variables, method.encode(variables, test), candidates)
    expected = reference(settings, tokens, labels, text, test)
    np.testing.assert_allclose(logits, 2.0 * expected, atol=5e-3)
    np.testing.assert_allclose(np.linalg.norm(candidates.classes, axis=-1), 1, atol=1e-5)


def test_the_feature_mean_is_the_mean_over_tokens():
    tokens, labels, text = problem()
    method = make(RidgeSettings(features="mean"), Shapes(KINECT_V1, (1, S, WIDTH), D))
    variables = method.fit(jax.random.key(0), tokens, labels, text[:SEEN])
    same = jnp.repeat(tokens.mean(axis=1, keepdims=True), 9, axis=1)
    np.testing.assert_allclose(
        method.encode(variables, same),
        method.encode(variables, tokens),
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"map": "text"}, "unknown map 'text'"),
        ({"features": "token"}, "did you mean 'tokens'"),
        ({"shrinkage": 1.5}, r"expected a share in \[0, 1\], got 1.5"),
        ({"text_ridge": 0.0}, "text_ridge: expected more than 0"),
    ],
)
def test_invalid_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        RidgeSettings(**settings)


def test_equal_texts_of_all_classes_do_not_divide_by_zero():
    """Without information in text, the expected vector of every class is the mean."""
    map_ = text_to_visual(jnp.zeros((3, 5)), jnp.ones((3, 2)), 1.0)
    np.testing.assert_array_equal(map_, np.zeros((5, 2)))
