"""Verbs and nouns of classes: from descriptions or names, as vectors, in models."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.builders.registry import PUBLIC, public_dataset
from data_pipelines.errors import DataError
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_file import read_model, write_model
from dynapurls_jax.serving.model_inputs import ModelInputs
from dynapurls_jax.text.descriptions import load_descriptions, shipped_descriptions
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.hashing import Hashing
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.text.words import NO_NOUN, class_words, encode_words, word_features, words_of
from dynapurls_jax.training.run import read_inputs
from tests.helpers.corpora import tiny_corpus
from tests.helpers.trained import small_config, small_inputs, train_small

HASHING = TextSettings(encoder="hashing")


@pytest.mark.parametrize(
    ("name", "texts", "words"),
    [
        ("drink water", {}, ("drink", "water")),
        ("put_on_a_shoe", {}, ("put", "shoe")),
        ("bow", {}, ("bow", NO_NOUN)),
        ("", {}, (NO_NOUN, NO_NOUN)),
        ("put on a shoe", {"verb": " put on "}, ("put on", "shoe")),
        ("walk around", {"verb": "walk", "noun": "#"}, ("walk", NO_NOUN)),
    ],
)
def test_words_are_those_of_the_entries_or_of_the_name(name, texts, words):
    assert words_of(name, texts) == words


@pytest.mark.parametrize("wrong", ["", " ", None, 3, ["cup"]])
def test_an_entry_that_is_no_word_is_refused(wrong):
    with pytest.raises(DataError, match=r"mine\.json.*'drink': expected a word for 'noun', got"):
        words_of("drink", {"noun": wrong}, "mine.json")


@pytest.mark.parametrize("dataset", PUBLIC)
def test_shipped_descriptions_have_words_of_every_class(dataset):
    descriptions, names = load_descriptions(shipped_descriptions(dataset)), {}
    for name in public_dataset(dataset).CLASSES:
        assert {"verb", "noun"} <= descriptions[name].keys(), name
        words = words_of(name, descriptions[name])
        assert words[0] != NO_NOUN, name
        assert names.setdefault(words, name) == name, words  # no two classes have the same


def test_words_become_unit_vectors_that_are_cached_by_their_text(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path))
    names = ("drink water", "bow")
    corpus = dataclasses.replace(tiny_corpus(classes=2), class_names=names)
    (tmp_path / "mine.json").write_text(
        json.dumps({"classes": {"bow": {"verb": "bend"}, "drink water": {}}})
    )
    settings = dataclasses.replace(HASHING, descriptions=str(tmp_path / "mine.json"))
    assert class_words(settings, corpus) == [("drink", "water"), ("bend", NO_NOUN)]
    vectors = word_features(settings, corpus)
    assert vectors.shape == (2, 2, 512)
    length = np.linalg.norm(vectors, axis=-1)
    np.testing.assert_allclose(length, [[1, 1], [1, 0]], atol=1e-5)  # hashing ignores marks
    np.testing.assert_array_equal(vectors[1], encode_words([("bend", "#")], Hashing())[0])
    monkeypatch.setattr("dynapurls_jax.text.words.encode_words", None)
    np.testing.assert_array_equal(word_features(settings, corpus), vectors)


def test_precomputed_text_is_refused_before_any_work(tmp_path, monkeypatch):
    corpus, config = tiny_corpus(), small_config()
    vectors = np.random.default_rng(0).normal(size=(8, 8, 12))
    np.savez(tmp_path / "mine.npz", names=np.array(corpus.class_names), text=vectors)
    config.text.encoder, config.text.precomputed = "precomputed", str(tmp_path / "mine.npz")
    config.method.name = "jpose"
    monkeypatch.setattr("dynapurls_jax.training.run.load_corpus", lambda data: corpus)
    message = "precomputed has no vectors of verbs and nouns: expected another encoder, or a method"
    with pytest.raises(ValueError, match=message):
        read_inputs(config)
    config.method.name = "revise"
    assert read_inputs(config).text.shape == (8, 8, 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synse", "jpose"])
def test_a_model_with_words_is_kept_in_a_file_and_takes_new_actions(name, tmp_path):
    config = small_config()
    config.encoder.name, config.method.name = "kinematics", name
    config.text.encoder, config.fit.epochs, config.fit.folds = "hashing", 1, 0
    run = train_small(small_inputs(config, text_width=512), tmp_path)
    model = model_of(run)
    assert model.texts["words"] == run.inputs.words_digest
    write_model(model, tmp_path / "model")
    again = read_model(tmp_path / "model")
    np.testing.assert_allclose(again.classes.words, run.words, atol=1e-3)
    assert again.identity == model.identity
    known = model.classes.names[0]
    classes = ModelInputs(again).classes({known: None, "drink water": None, "bow": None})
    expected = encode_words([("drink", "water"), ("bow", NO_NOUN)], Hashing())
    np.testing.assert_allclose(classes.words[1:], expected, atol=1e-6)
    np.testing.assert_array_equal(classes.words[0], again.classes.words[0])
    given = {"verb": "sip", "noun": "cup"} | dict.fromkeys(GRANULARITIES, "drink from a cup")
    classes = ModelInputs(again).classes({"drink water": given})
    np.testing.assert_allclose(classes.words, encode_words([("sip", "cup")], Hashing()), atol=1e-6)
    candidates = again.bind(classes)
    features = again.method.encode(again.variables, jnp.asarray(run.tokens[:3], jnp.float32))
    logits = again.method.score(again.variables, features, candidates)
    assert np.isfinite(logits).all()
    assert logits.shape == (3, 1)
