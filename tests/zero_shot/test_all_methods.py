"""What holds for every zero-shot method: it learns, and nothing leaks from unseen classes."""

import dataclasses
import inspect
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.evaluation.evaluate import evaluate_run
from dynapurls_jax.training.checkpoints import tree_digest
from dynapurls_jax.training.run import make_spec
from dynapurls_jax.zero_shot.base import ClassText, Shapes, ZeroShotMethod, unit
from dynapurls_jax.zero_shot.registry import METHODS
from tests.helpers.cases import some
from tests.helpers.runs import changed, with_labels
from tests.helpers.trained import SPLIT, small_config, small_inputs, train_small

B, C, V, N, D = 8, 4, KINECT_V1.num_joints, 6, 8
SHAPES = Shapes(KINECT_V1, (3, V, N), D)
LABELS = jnp.arange(B) % C
# TDSM predicts by errors of denoising, which take longer to learn: see test_tdsm.py.
TRAINED = [n for n in METHODS.names if METHODS.entry(n).trained and n != "tdsm"]
# The lexicon is fitted on several corpora, see `test_lexicon`.
EVERY = [name for name in METHODS.names if name != "lexicon"]
NO_EMBEDDING = ("cada_vae", "synse", "sa_dvae", "smie", "tdsm", "purls_published")
SMALL = {
    "purls": {"attention": 8, "hidden": 16},
    "revise": {"hidden": 16, "text_hidden": 16, "common": 8},
    "jpose": {"text_hidden": 16, "common": 8},
    "cada_vae": {"latent": 8, "cycle": 60},
    "synse": {"latent": 8, "cycle": 60},
    "sa_dvae": {"semantic": 6, "style": 2, "cycle": 60},
    "smie": {"hidden": 32},
    "star": {"prompts": 8, "heads": 2, "text_hidden": 16},
    "neuron": {"prototypes": 8, "scale": 10.0},
}


def described(name, seed=1):
    """Random text of `C` classes, as a method takes it."""
    rng = np.random.default_rng(seed)
    text, words = (unit(jnp.asarray(rng.normal(size=(C, k, D)), jnp.float32)) for k in (8, 2))
    entry = METHODS.entry(name)
    sketch = jnp.full((C, 3 * V, N), jnp.nan) if entry.sketches else None
    if sketch is None and not entry.words:
        return text
    return ClassText(text, sketch, words if entry.words else None)


@cache
def fresh(name):
    """A method of small networks with its first variables, and clips of `C` classes."""
    entry = METHODS.entry(name)
    method = entry.make(entry.settings(**SMALL.get(name, {})), SHAPES)
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(C, 3 * V, N))[LABELS] + 0.3 * rng.normal(size=(B, 3 * V, N))
    tokens, text, key = jnp.asarray(clips, jnp.float32), described(name), jax.random.key(0)
    if entry.trained:
        variables = jax.jit(method.init)(key, tokens, text)
    else:
        variables = jax.jit(method.fit)(key, tokens, LABELS, text)
    return method, variables, tokens, text


@pytest.mark.parametrize("name", METHODS.names)
def test_only_fitting_and_the_oracle_take_labels(name):
    """The functions that predict have no argument through which a label could come."""
    model = METHODS.entry(name).make(METHODS.entry(name).settings(), SHAPES)
    functions = {key: getattr(model, key) for key in ZeroShotMethod._fields}
    functions |= model.embedding._asdict() if model.embedding else {}
    for key, function in functions.items():
        if callable(function):
            takes = {"labels", "batch"} & set(inspect.signature(function).parameters)
            assert bool(takes) == (key in ("fit", "loss", "oracle")), key


@pytest.mark.parametrize("name", some(TRAINED, "smie"))
def test_a_trained_method_learns_eight_clips(name):
    method, variables, tokens, text = fresh(name)
    optimizer = optax.adam(1e-2)

    def step(carry, number):
        params, state = carry

        def loss(params):
            both, key = {**variables, "params": params}, jax.random.key(number)
            return method.loss(both, (tokens, LABELS), text, key, number)

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def learned(params):
        start = (params, optimizer.init(params))
        both = {**variables, "params": jax.lax.scan(step, start, jnp.arange(300))[0][0]}
        return method.score(both, method.encode(both, tokens), method.bind(both, text))

    np.testing.assert_array_equal(learned(variables["params"]).argmax(axis=-1), LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EVERY if name not in NO_EMBEDDING])
def test_classes_are_bound_one_by_one_as_all_together(name):
    method, variables, _, text = fresh(name)
    bind = jax.jit(method.bind)
    alone = [
        bind(variables, jax.tree.map(lambda leaf, c=c: leaf[c : c + 1], text)) for c in range(C)
    ]
    found = np.concatenate([one.classes for one in alone])
    np.testing.assert_allclose(found, bind(variables, text).classes, atol=1e-5)


@pytest.mark.parametrize(
    "name", some([name for name in EVERY if name not in NO_EMBEDDING], "scople")
)
def test_scored_granularities_score_as_all(name):
    """A test-time method keeps these alone, and scores with them."""
    method, variables, tokens, text = fresh(name)

    @jax.jit
    def scores(variables):
        features, candidates = method.encode(variables, tokens), method.bind(variables, text)
        scored = method.embedding.scored(candidates)
        return [method.score(variables, features, one) for one in (candidates, scored)]

    expected, found = scores(variables)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def configured(name):
    """The small configuration with one method, on tokens that nothing is trained for."""
    config = small_config()
    config.encoder.name, config.method.name, config.text.encoder = "kinematics", name, "hashing"
    config.fit.update(epochs=2, folds=2)
    if name in SMALL:
        config.method[name].update(SMALL[name])
    return config


def train_with(name, workdir, unseen_texts=None):
    """Trains one run.

    Args:
      unseen_texts: seed of other texts, verbs and nouns of the unseen classes; None keeps them.
    """
    width = 512 if METHODS.entry(name).words else 12  # that of hashed words
    inputs = small_inputs(configured(name), text_width=width)
    unseen = make_spec(inputs, workdir, SPLIT, 0).protocol.unseen
    if unseen_texts is not None:
        rng, text = np.random.default_rng(unseen_texts), inputs.text.copy()
        text[unseen] = rng.normal(size=text[unseen].shape)
        names = list(inputs.corpus.class_names)
        for c in unseen:
            names[c] = f"swim in lake {c}"
        corpus = dataclasses.replace(inputs.corpus, class_names=tuple(names))
        inputs = dataclasses.replace(inputs, text=text, corpus=corpus)
    return train_small(inputs, workdir)


@pytest.fixture(scope="module")
def trained_with(tmp_path_factory):
    """`train_with` of a method, once for all tests."""
    return cache(lambda name: train_with(name, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("name", some(EVERY, "ridge"))
def test_training_never_reads_the_text_of_an_unseen_class(trained_with, name, tmp_path):
    """With other texts, verbs and nouns of all unseen classes, the variables are the same."""
    expected, got = trained_with(name), train_with(name, tmp_path, 0)
    unseen = expected.protocol.unseen
    assert not np.array_equal(expected.inputs.text[unseen], got.inputs.text[unseen])
    if METHODS.entry(name).words:
        differ = (expected.words != got.words).any(axis=(1, 2))
        assert np.flatnonzero(differ).tolist() == unseen.tolist()
    assert tree_digest(got.variables) == tree_digest(expected.variables)
    assert got.results == expected.results


@pytest.mark.parametrize("name", some(EVERY, "ridge"))
def test_permuting_unseen_labels_leaves_every_prediction_bit_identical(trained_with, name):
    run = changed(trained_with(name), {"adapter.name": "static", "eval.chunk": 4})
    unseen = np.isin(run.inputs.corpus.labels, run.protocol.unseen)
    labels = run.inputs.corpus.labels.copy()
    labels[unseen] = np.random.default_rng(0).permutation(labels[unseen])
    result, other = evaluate_run(run), evaluate_run(with_labels(run, labels))
    assert not np.array_equal(result.labels, other.labels)
    jax.tree.map(np.testing.assert_array_equal, result.streams, other.streams)
