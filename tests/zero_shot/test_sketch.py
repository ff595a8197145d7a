"""Sketches and ridge regression against NumPy, with and without sketches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot.base import ClassText, Shapes
from dynapurls_jax.zero_shot.ridge import RidgeSettings
from dynapurls_jax.zero_shot.ridge import make as make_ridge
from dynapurls_jax.zero_shot.sketch import SketchSettings, make

SEEN, UNSEEN, S, WIDTH, D = 6, 3, 4, 3, 5
N = 60
SHAPES = Shapes(KINECT_V1, (1, S, WIDTH), D)


def problem(seed=0, noise=0.4):
    """Clips around class centres, sketches that resemble the centres, random text."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(SEEN + UNSEEN, S, WIDTH))
    labels = np.arange(N) % SEEN
    tokens = centres[labels] + 0.3 * rng.normal(size=(N, S, WIDTH))
    unseen = np.arange(30) % UNSEEN
    test = centres[SEEN + unseen] + 0.3 * rng.normal(size=(30, S, WIDTH))
    sketch = centres + noise * rng.normal(size=centres.shape)
    text = rng.normal(size=(SEEN + UNSEEN, 8, D))
    text /= np.linalg.norm(text, axis=-1, keepdims=True)
    arrays = (jnp.asarray(a, jnp.float32) for a in (tokens, test, sketch, text))
    return *arrays, jnp.asarray(labels), unseen


def scores(settings, tokens, labels, described, test):
    method = make(settings, SHAPES)
    seen, unseen = (
        jax.tree.map(lambda a, p=p: a[p], described) for p in (slice(SEEN), slice(SEEN, None))
    )
    variables = jax.jit(method.fit)(jax.random.key(0), tokens, labels, seen)
    return method.score(variables, method.encode(variables, test), method.bind(variables, unseen))


def reference(settings, tokens, labels, described, test):
    """Cosines by definition, in double precision; every class has a sketch."""
    flat = [np.asarray(a, np.float64).reshape(len(a), -1) for a in (tokens, test, *described[:2])]
    x, test, text, sketch = flat
    mean, std = x.mean(axis=0), x.std(axis=0)
    count = min(settings.components, x.shape[1])
    axes = np.linalg.svd((x - mean) / std)[2][:count].T
    z = (x - mean) / std @ axes
    means = np.stack([z[labels == c].mean(axis=0) for c in range(SEEN)])
    within = (z - means[labels]).T @ (z - means[labels]) / N
    share = settings.shrinkage
    within = (1 - share) * within + share * np.trace(within) / count * np.eye(count)
    values, vectors = np.linalg.eigh(within)
    whitening = axes @ (vectors / np.sqrt(values) @ vectors.T)
    centre = (x - mean) / std @ whitening
    centre = np.stack([centre[labels == c].mean(axis=0) for c in range(SEEN)])

    def vectors_of(rows):
        return (rows - mean) / std @ whitening - centre.mean(axis=0)

    wanted, animated = centre - centre.mean(axis=0), vectors_of(sketch)
    animated = animated - animated[:SEEN].mean(axis=0)
    gain = (animated[:SEEN] * wanted).sum() / (animated[:SEEN] ** 2).sum()
    animated = settings.weight * max(gain, 0) * animated
    text = text - text[:SEEN].mean(axis=0)
    kernel = text[:SEEN] @ text[:SEEN].T
    kernel += settings.text_ridge * np.trace(kernel) / SEEN * np.eye(SEEN)
    left = np.linalg.solve(kernel, wanted - animated[:SEEN])
    classes = animated[SEEN:] + text[SEEN:] @ text[:SEEN].T @ left
    clips = vectors_of(test)
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    return settings.scale * clips @ (classes / np.linalg.norm(classes, axis=1, keepdims=True)).T


@pytest.mark.parametrize(
    "settings", [SketchSettings(), SketchSettings(weight=0.3, components=7, text_ridge=0.2)]
)
def test_scores_equal_the_definition(settings):
    tokens, test, sketch, text, labels, _ = problem()
    described = ClassText(text, sketch)
    found = scores(settings, tokens, labels, described, test)
    np.testing.assert_allclose(
        found, reference(settings, tokens, labels, described, test), atol=2e-3
    )


def test_sketches_recognise_classes_without_information_in_text():
    tokens, test, sketch, text, labels, truth = problem()
    settings = SketchSettings(text_ridge=1e6)  # text has no weight
    found = scores(settings, tokens, labels, ClassText(text, sketch), test)
    assert np.mean(np.asarray(found).argmax(axis=1) == truth) > 0.9


@pytest.mark.parametrize("case", ["no sketches", "no weight"])
def test_without_sketches_it_is_ridge_regression(case):
    tokens, test, sketch, text, labels, _ = problem()
    sketch = jnp.full_like(sketch, jnp.nan) if case == "no sketches" else sketch
    settings = SketchSettings(weight=0.0 if case == "no weight" else 0.8)
    found = scores(settings, tokens, labels, ClassText(text, sketch), test)
    ridge = make_ridge(RidgeSettings(), SHAPES)
    variables = ridge.fit(jax.random.key(0), tokens, labels, text[:SEEN])
    candidates = ridge.bind(variables, text[SEEN:])
    expected = ridge.score(variables, ridge.encode(variables, test), candidates)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_classes_without_a_sketch_do_not_affect_the_others():
    tokens, test, sketch, text, labels, truth = problem()
    sketch = sketch.at[SEEN].set(jnp.nan).at[0].set(jnp.nan)
    found = np.asarray(scores(SketchSettings(), tokens, labels, ClassText(text, sketch), test))
    assert np.isfinite(found).all()
    others = truth != 0
    assert np.mean(found[others][:, 1:].argmax(axis=1) == truth[others] - 1) > 0.9


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"weight": -1.0}, "weight: expected 0"),
        ({"shrinkage": 2.0}, r"shrinkage: expected a share in"),
    ],
)
def test_invalid_settings_are_errors(wrong, expected):
    with pytest.raises(ValueError, match=expected):
        SketchSettings(**wrong)
