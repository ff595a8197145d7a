"""Settings, text encoders, precomputed vectors, and text features with their cache."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.demo.recipes import demo_recipes
from data_pipelines.errors import DataError
from dynapurls_jax.registry import section_of, settings_of
from dynapurls_jax.text.descriptions import check_descriptions
from dynapurls_jax.text.encoders import (
    TextEncoder,
    encode_descriptions,
    in_templates,
    make_text_encoder,
)
from dynapurls_jax.text.features import class_texts, class_vector, text_features
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.hashing import Hashing
from dynapurls_jax.text.precomputed import load_precomputed
from dynapurls_jax.text.registry import TEXT_ENCODERS
from dynapurls_jax.text.settings import TextSettings
from tests.helpers.corpora import tiny_corpus

NAMES = ("wave", "kick a ball")
HASHING = TextSettings(encoder="hashing")


@pytest.fixture(scope="module")
def demo_corpus():
    """The classes of the demo corpus, without its clips."""
    names = tuple(recipe.name for recipe in demo_recipes())
    return replace(tiny_corpus(classes=2), name="demo", class_names=names)


def test_settings_round_trip_through_a_config_section():
    section = section_of(TextSettings)
    assert settings_of(TextSettings, section, "text") == TextSettings()
    section.encoder, section.template["head"] = "hashing", "the head: {}"
    settings = settings_of(TextSettings, section, "text")
    assert settings.encoder == "hashing"
    assert settings.template == TextSettings().template | {"head": "the head: {}"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("encoder", "clop", "did you mean 'clip'"),
        ("dtype", "float16", "did you mean 'bfloat16'|did you mean 'float32'"),
        ("template", {"head": "{}"}, r"template\.global: expected a text with one \{\}, got ''"),
    ],
)
def test_invalid_settings_are_errors(key, value, expected):
    with pytest.raises(ValueError, match=expected):
        TextSettings(**{key: value})


@pytest.mark.parametrize("wrong", ["the legs", "{} or {}"])
def test_a_template_has_one_placeholder(wrong):
    template = TextSettings().template | {"legs": wrong}
    with pytest.raises(ValueError, match=r"template\.legs: expected a text with one \{\}"):
        TextSettings(template=template)
    with pytest.raises(ValueError, match="unknown template 'leg'; did you mean 'legs'"):
        TextSettings(template=TextSettings().template | {"leg": "{}"})


def test_each_granularity_has_its_own_template(texts):
    templates = TextSettings().template | {"legs": "the legs: {}"}
    filled = in_templates(check_descriptions(texts, NAMES, "here"), templates)
    assert filled[1][GRANULARITIES.index("head")] == ["a video of kick a ball with the head"]
    assert filled[1][GRANULARITIES.index("legs")] == ["the legs: kick a ball with the legs"]


@pytest.mark.parametrize("name", [name for name in TEXT_ENCODERS.names if name != "clip"])
def test_encoders_have_one_interface(name, tmp_path):
    assert TEXT_ENCODERS.entry(name).settings is TextSettings
    _precomputed(tmp_path / "t.npz")
    settings = TextSettings(encoder=name, precomputed=str(tmp_path / "t.npz"))
    assert isinstance(make_text_encoder(settings), TextEncoder)


def test_hashing_is_deterministic_and_compares_words():
    encoder = Hashing()
    a, b, c = encoder.encode(["raise the left arm", "raise the left leg", "jump twice quickly"])
    assert a @ b > a @ c
    np.testing.assert_array_equal(encoder.encode(["raise the left arm"])[0], a)


def test_features_are_unit_vectors_in_class_id_order(texts):
    checked = check_descriptions(texts, NAMES, "here")
    features = encode_descriptions(checked, Hashing())
    assert features.shape == (2, 8, 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, atol=1e-6)
    swapped = encode_descriptions(checked[::-1], Hashing())
    np.testing.assert_array_equal(swapped[::-1], features)


def test_phrasings_are_averaged_as_directions(texts):
    single = encode_descriptions(check_descriptions(texts, NAMES, "here"), Hashing())
    phrasings = ["swing the arm", "move the arm to and fro", "greet"]
    texts["wave"]["hands"] = phrasings
    features = encode_descriptions(check_descriptions(texts, NAMES, "here"), Hashing())
    mean = Hashing().encode(phrasings).mean(axis=0)
    hands = GRANULARITIES.index("hands")
    np.testing.assert_allclose(features[0, hands], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(np.delete(features[0], hands, 0), np.delete(single[0], hands, 0))
    np.testing.assert_array_equal(features[1], single[1])


def _precomputed(path, names=NAMES, text=None):
    text = np.random.default_rng(0).normal(size=(len(names), 8, 5)) if text is None else text
    np.savez(path, names=np.array(names), text=text)
    return text


def test_precomputed_vectors_follow_class_names(tmp_path):
    text = _precomputed(tmp_path / "t.npz", names=("kick a ball", "wave"))
    vectors = load_precomputed(tmp_path / "t.npz", NAMES)
    np.testing.assert_allclose(
        vectors[0], text[1] / np.linalg.norm(text[1], axis=-1, keepdims=True), 1e-5
    )


def test_precomputed_vectors_are_of_fixed_classes(tmp_path, texts):
    _precomputed(tmp_path / "t.npz")
    corpus = replace(tiny_corpus(classes=2), class_names=NAMES)
    settings = TextSettings(encoder="precomputed", precomputed=str(tmp_path / "t.npz"))
    vectors, digest = text_features(settings, corpus)
    np.testing.assert_array_equal(vectors, load_precomputed(tmp_path / "t.npz", NAMES))
    assert text_features(settings, corpus)[1] == digest
    _precomputed(tmp_path / "t.npz", text=np.ones((2, 8, 5)))
    assert text_features(settings, corpus)[1] != digest
    with pytest.raises(ValueError, match="expected clip, minilm or hashing to encode 'a video of"):
        class_vector(settings, make_text_encoder(settings), "wave", texts["wave"])


def test_broken_precomputed_files_are_errors(tmp_path):
    path = tmp_path / "t.npz"
    for missing in (path, ""):
        with pytest.raises(FileNotFoundError, match="npz file with names and text, found no file"):
            load_precomputed(missing, NAMES)
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match="not a readable zip archive"):
        load_precomputed(path, NAMES)
    np.savez(path, other=np.ones(3))
    with pytest.raises(DataError, match="names"):
        load_precomputed(path, NAMES)
    _precomputed(path, text=np.ones((3, 8, 5)))
    with pytest.raises(DataError, match=r"expected text \[2, 8, d\] for 2 names, got \[3, 8, 5\]"):
        load_precomputed(path, NAMES)
    _precomputed(path)
    with pytest.raises(DataError, match="all 3 classes, got 2; missing: 'jump'"):
        load_precomputed(path, [*NAMES, "jump"])
    _precomputed(path, text=np.full((2, 8, 5), np.nan))
    with pytest.raises(DataError, match="finite"):
        load_precomputed(path, NAMES)


def test_settings_choose_the_descriptions(tmp_path, demo_corpus, texts):
    vectors, digest = text_features(HASHING, demo_corpus)
    assert vectors.shape == (48, 8, 512)
    assert digest == text_features(HASHING, demo_corpus)[1]
    corpus = tiny_corpus(classes=2)
    names = class_texts(replace(HASHING, descriptions="names"), corpus)
    assert names == [[["a video of class 0"]] * 8, [["a video of class 1"]] * 8]
    (tmp_path / "mine.json").write_text(json.dumps({"classes": texts}))
    with pytest.raises(DataError, match="'class 0', 'class 1'"):
        text_features(replace(HASHING, descriptions=str(tmp_path / "mine.json")), corpus)
    shipped = replace(corpus, class_names=("bow",), descriptions="pku_mmd_2")
    assert class_texts(HASHING, shipped)[0][0][0].startswith("a video of ")


def test_a_new_class_has_the_vector_of_a_class_of_the_corpus(tmp_path, texts):
    (tmp_path / "mine.json").write_text(json.dumps({"classes": texts}))
    settings = replace(HASHING, descriptions=str(tmp_path / "mine.json"))
    vectors, _ = text_features(settings, replace(tiny_corpus(classes=2), class_names=NAMES))
    new = class_vector(settings, make_text_encoder(settings), "wave", texts["wave"])
    np.testing.assert_allclose(new, vectors[0], atol=1e-6)


def test_the_digest_of_the_demo_equals_that_of_earlier_versions(demo_corpus):
    """Another digest invalidates all cached vectors and trained runs."""
    assert text_features(HASHING, demo_corpus)[1] == "01c392ba63692c04"


def test_features_are_cached(demo_corpus, monkeypatch, tmp_path):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path))
    first, digest = text_features(HASHING, demo_corpus)
    (file,) = (tmp_path / "text").iterdir()
    assert file.name == f"{digest}.npz"
    with monkeypatch.context() as patch:
        patch.setattr(Hashing, "encode", lambda self, texts: pytest.fail("encoded again"))
        np.testing.assert_array_equal(text_features(HASHING, demo_corpus)[0], first)
    file.write_bytes(file.read_bytes()[:200])  # as after a full disk
    np.testing.assert_array_equal(text_features(HASHING, demo_corpus)[0], first)
    settings = replace(HASHING, template=HASHING.template | {"head": "the head: {}"})
    other, changed = text_features(settings, demo_corpus)
    assert changed != digest
    assert not np.array_equal(other, first)
    monkeypatch.setattr(Hashing, "digest", "other weights")
    assert text_features(settings, demo_corpus)[1] not in (digest, changed)
