"""The zero-shot method `lexicon`, against loops in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.lexicon import LexiconSettings, make, squashed
from dynapurls_jax.zero_shot.lexicon_fit import ImaginedActions, corpus_means, fit_corpora

WIDTH, FEATURES = 9, 7
SETTINGS = LexiconSettings(components=5, sharpness=6.0, most_clips=10)
METHOD = make(SETTINGS, Shapes(KINECT_V1, (1, 1, FEATURES), WIDTH))
FACTORS = np.array([[1, 0.5, 0.1], [0.5, 1, 0.5], [0.1, 0.5, 1]])


def rows(rng, side):
    """Rows of names with sides 0 to 2, in the layout of the text encoder."""
    meaning = rng.normal(size=(len(side), WIDTH - 3))
    meaning /= np.linalg.norm(meaning, axis=1, keepdims=True)
    return (np.concatenate([meaning, np.eye(3)[side]], axis=1) / 2**0.5).astype(np.float32)


@pytest.fixture(scope="module")
def problem():
    """Two corpora and a lexicon of four actions: with no side, right, left, no side."""
    rng = np.random.default_rng(0)
    corpora = []
    for classes in (4, 3):
        labels = np.repeat(np.arange(classes), 6 + 3 * np.arange(classes))
        features = (
            rng.normal(size=(len(labels), FEATURES))
            + 2 * rng.normal(size=(classes, FEATURES))[labels]
        )
        text = rows(rng, rng.integers(0, 3, classes))
        corpora.append((features.astype(np.float32), labels, text))
    imagined = ImaginedActions(
        text=rows(rng, np.array([1, 1, 2, 0, 1])),
        action=np.array([0, 0, 1, 2, 3]),
        features=rng.normal(size=(4, FEATURES)).astype(np.float32),
        mirrored=rng.normal(size=(4, FEATURES)).astype(np.float32),
    )
    means = [corpus_means(*corpus, SETTINGS.most_clips) for corpus in corpora]
    return corpora, means, imagined, fitted(SETTINGS, means, imagined)


def fitted(settings, means, imagined):
    """Variables with an identity as standardisation."""
    variables = fit_corpora(settings, means, imagined)
    standard = {"mean": jnp.zeros(FEATURES), "deviation": jnp.ones(FEATURES)}
    return variables | {"visual": variables["visual"] | standard}


def test_means_and_scatter_of_a_corpus(problem):
    (features, labels, text), *_ = problem[0]
    found = problem[1][0]
    scatter = np.zeros((FEATURES, FEATURES))
    for label in range(len(text)):
        own = features[labels == label]
        away = own - own.mean(axis=0)
        np.testing.assert_allclose(found.means[label], own.mean(axis=0), atol=1e-5)
        assert found.counts[label] == min(len(own), 10)
        scatter += away.T @ away * min(len(own), 10) / len(own)
    np.testing.assert_allclose(found.scatter, scatter, rtol=1e-4, atol=1e-4)


def predicted(imagined, vectors, text):
    """Means of imagined vectors for names, by loops; `vectors` by action and side."""
    found = []
    for row in text:
        scores = {}
        for name, action in zip(imagined.text, imagined.action, strict=True):
            for side in range(3):
                own = int(name[-3:].argmax())
                if own not in (1, side):
                    continue
                factor = FACTORS[row[-3:].argmax(), side]
                score = 6.0 * 2 * (row[:-3] @ name[:-3]) + np.log(factor)
                scores[action, side] = max(scores.get((action, side), -np.inf), score)
        share = np.exp(list(scores.values()))
        each = np.stack([vectors[action][side] for action, side in scores])
        found.append(share @ each / share.sum())
    return np.stack(found)


def kernel(a, b):
    side = FACTORS[a[:, -3:].argmax(axis=1)][:, b[:, -3:].argmax(axis=1)]
    away = 2 * a[:, :-3] @ b[:, :-3].T - 1
    return side * (np.exp(2.0 * away) + 0.5 * np.exp(10.0 * away)) / 1.5


def whitening(within, means, predicted, counts):
    """The whitening in NumPy, by its docstring."""
    away = means - np.average(means, axis=0, weights=counts)
    total = within + (away.T * counts / counts.sum()) @ away
    gain = 1 / np.sqrt(np.diag(total))
    _, axes = np.linalg.eigh(total * np.outer(gain, gain))
    axes = axes[:, ::-1][:, :5]
    weight = np.sqrt(counts)[:, None] / np.sqrt(counts).sum()
    first, wanted = predicted * gain, means * gain
    wrong = means - (weight * first * wanted).sum() / (weight * first**2).sum() * predicted
    within = within + wrong.T @ (weight * wrong)
    reduced = axes.T @ (within * np.outer(gain, gain)) @ axes
    reduced = 0.7 * reduced + 0.3 * np.trace(reduced) / 5 * np.eye(5)
    values, vectors = np.linalg.eigh(reduced)
    return gain[:, None] * (axes @ (vectors / np.sqrt(values)) @ vectors.T)


def reference(means, imagined, queries):
    """Expected vectors of the queries, and the map of clips."""
    centres = [np.average(c.means, axis=0, weights=np.sqrt(c.counts)) for c in means]
    stacked = np.concatenate([c.means - m for c, m in zip(means, centres, strict=True)])
    counts = np.concatenate([c.counts for c in means])
    text = np.concatenate([c.text for c in means])
    centre = (imagined.features + imagined.mirrored).mean(axis=0) / 2
    original, image = (x - centre for x in (imagined.features, imagined.mirrored))
    # The third action has the left side: its sketch is the left version.
    vectors = [(image[a] if a != 2 else original[a], original[a], original[a]) for a in range(4)]
    first = predicted(imagined, vectors, text)
    within = sum(c.scatter for c in means) / counts.sum()
    projection = whitening(within, stacked, first, counts)
    targets, first = stacked @ projection, first @ projection
    gain = max((first * targets).sum() / (first**2).sum(), 0)
    weight = counts**0.5 / (counts**0.5).mean()
    # Weighted ridge regression of the residuals, as least squares with more rows.
    root, penalty = np.sqrt(weight)[:, None], 3.0 * (weight @ first**2).sum() / 5
    inputs = np.concatenate([root * first, np.sqrt(penalty) * np.eye(5)])
    outputs = np.concatenate([root * (targets - gain * first), np.zeros((5, 5))])
    mapped = gain * np.eye(5) + np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    regularised = kernel(text, text) + np.diag(0.5 / weight)
    coefficients = np.linalg.solve(regularised, targets - first @ mapped)
    expected = predicted(imagined, vectors, queries) @ projection @ mapped
    expected = expected + kernel(queries, text) @ coefficients
    return (
        expected / np.linalg.norm(expected, axis=1, keepdims=True),
        projection,
        np.mean(centres, 0),
    )


def test_vectors_of_names_and_clips_equal_the_reference(problem):
    corpora, means, imagined, variables = problem
    queries = rows(np.random.default_rng(1), np.array([0, 1, 2, 1]))
    expected, projection, centre = reference(means, imagined, queries)
    found = np.asarray(METHOD.bind(variables, jnp.asarray(queries[:, None])).classes[:, 0])
    clips = corpora[0][0][:5]
    raw = np.sinh(0.3 * clips) / 0.3  # the inverse of squashing
    encoded = np.asarray(METHOD.encode(variables, jnp.asarray(raw[:, None])))
    whitened = (clips - centre) @ projection
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    # Signs of principal components are arbitrary: only dot products are compared.
    np.testing.assert_allclose(encoded @ found.T, whitened @ expected.T, atol=2e-3)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-3)


def test_a_class_does_not_depend_on_the_others(problem):
    queries = jnp.asarray(rows(np.random.default_rng(2), np.array([0, 1, 2]))[:, None])
    every = METHOD.bind(problem[3], queries).classes
    np.testing.assert_allclose(METHOD.bind(problem[3], queries[1:2]).classes, every[1:2], atol=1e-5)


def test_the_left_version_of_an_action_without_a_side_is_its_mirror_image(problem):
    """With sharp similarities, a name with the left side has the mirrored features."""
    _, means, imagined, _ = problem
    settings = LexiconSettings(components=5, sharpness=300.0, ridge=1e9, map_ridge=1e9)
    settings = dataclasses.replace(settings, one_sided=1e-9, other_side=1e-9)
    method = make(settings, Shapes(KINECT_V1, (1, 1, FEATURES), WIDTH))
    variables = fitted(settings, means, imagined)
    queries = np.repeat(imagined.text[4:], 2, axis=0)
    queries[:, -3:] = np.eye(3)[[0, 2]] / 2**0.5
    found = method.bind(variables, jnp.asarray(queries[:, None])).classes[:, 0]
    centre = (imagined.features + imagined.mirrored).mean(axis=0) / 2
    wanted = np.stack([imagined.mirrored[3], imagined.features[3]]) - centre
    expected = wanted @ np.asarray(variables["visual"]["projection"])
    cosine = np.sum(found * expected, axis=1) / np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-2)


def test_an_action_with_zero_rows_has_no_effect(problem):
    _, means, imagined, _ = problem
    queries = jnp.asarray(imagined.text[2:3][:, None])
    gone = imagined._replace(text=imagined.text * (imagined.action != 1)[:, None])
    rest = ImaginedActions(
        imagined.text[[0, 1, 3, 4]], np.array([0, 0, 1, 2]), *(x[[0, 2, 3]] for x in imagined[2:])
    )
    share = [
        fit_corpora(SETTINGS, means, each)["lexicon"]["vectors"].shape for each in (gone, rest)
    ]
    assert share == [(4, 3, 5), (3, 3, 5)]
    moved = gone._replace(features=gone.features + 5 * (np.arange(4) == 1)[:, None])
    moved = moved._replace(mirrored=gone.mirrored - 5 * (np.arange(4) == 1)[:, None])
    one, other = (
        METHOD.bind(fitted(SETTINGS, means, each), queries).classes for each in (gone, moved)
    )
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_half_precision_changes_little(problem):
    queries = jnp.asarray(rows(np.random.default_rng(3), np.array([0, 1, 2]))[:, None])
    half = jax.tree.map(
        lambda x: x.astype(jnp.float16) if x.dtype == jnp.float32 else x, problem[3]
    )
    expected = METHOD.bind(problem[3], queries).classes
    np.testing.assert_allclose(METHOD.bind(half, queries).classes, expected, atol=1e-2)


def test_the_error_for_one_dataset_names_the_training_script():
    with pytest.raises(ValueError, match=r"scripts/train_universal.py; for one dataset choose"):
        METHOD.fit(
            jax.random.key(0), jnp.zeros((2, 1, FEATURES)), jnp.arange(2), jnp.zeros((2, 1, WIDTH))
        )


def test_large_features_are_compressed():
    features = jnp.array([[0.0, 2.0, -2.0, 1000.0]])
    found = squashed(SETTINGS, features, jnp.ones(4), 2 * jnp.ones(4))[0]
    np.testing.assert_allclose(found[:3], [-0.5, 0.5, -1.5], atol=0.05)
    assert 10 < found[3] < 30


@pytest.mark.parametrize("wrong", [{"sharpness": 0.0}, {"other_side": 0.0}, {"most_clips": 0}])
def test_invalid_settings_are_errors(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        LexiconSettings(**wrong)
