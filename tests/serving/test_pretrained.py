"""The pretrained models of the package."""

from pathlib import Path

import numpy as np
import pytest

import dynapurls_jax
from data_pipelines.animation import animate
from data_pipelines.clip_files import load_clips
from data_pipelines.sample_clip import FILE as SAMPLE
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.serving.model_file import read_card
from dynapurls_jax.serving.pretrained import pretrained_names
from dynapurls_jax.text.registry import TEXT_ENCODERS

FILE = Path(dynapurls_jax.__file__).parent / "pretrained" / "universal.safetensors"
ACTIONS = ["wave", "squat", "walk", "clap"]


@pytest.fixture(scope="module")
def model():
    return dynapurls_jax.load_pretrained()


def clip(**parts):
    sketch = parse_sketch({key.replace("_", " "): row for key, row in parts.items()}, "", "test")
    return animate(sketch, 60)


def test_the_models_are_small_and_have_a_card():
    assert pretrained_names() == ("demo", "universal")
    assert sum(file.stat().st_size for file in FILE.parent.glob("*.safetensors")) < 8e6
    card = read_card(str(FILE))
    assert "For research use" in card
    assert "CC BY-NC 4.0" in card


@pytest.mark.slow
def test_it_recognises_animated_sketches(model):
    waving = clip(right_hand="hang > (head out > overhead aside)*3 > hang")
    squatting = clip(hips="stand > low > stand > low > stand", both_hands="shoulder front")
    for motion, label in ((waving, "wave"), (squatting, "squat")):
        assert model.predict(motion, ACTIONS, "kinect_v1").label == label


@pytest.mark.slow
def test_it_distinguishes_left_and_right(model):
    sides = ["raise the left hand", "raise the right hand"]
    for side in ("left", "right"):
        motion = clip(**{f"{side}_hand": "hang > overhead > overhead > hang"})
        assert model.predict(motion, sides, "kinect_v1").label == f"raise the {side} hand"


def test_unknown_words_have_finite_probabilities(model):
    found = model.predict(
        clip(hips="stand > jump > stand"), ["xyzzy", "of the", "Qué?"], "kinect_v1"
    )
    assert np.isfinite(found.probabilities).all()
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_the_text_encoder_equals_that_of_the_training(model):
    """If the text encoder changes, the model must be trained again."""
    encoder = TEXT_ENCODERS.entry("action_names").make(None)
    assert model.model.texts["texts"] == encoder.digest
    known = model.model.classes
    rows = encoder.encode(list(known.names))
    np.testing.assert_allclose(known.text[:, 0], rows, atol=2e-3)


def test_it_recognises_the_sample_clip(model):
    [clip] = load_clips(SAMPLE)
    actions = ["sit down", "drink from a cup", "wave with the right hand"]
    assert model.stream(actions, "static")(clip).label == "wave with the right hand"


@pytest.mark.shared_data
def test_it_recognises_files_of_other_skeletons(model, shared_data):
    clips = [c for c in load_clips(shared_data / "bvh") if not isinstance(c, str)]
    stream = model.stream(["wave with the left hand", "jumping jacks", "run"])
    found = {c.id: stream(c).label for c in clips}
    assert found["jumping_jacks_cmu"] == "jumping jacks"
    assert found["wave-left-hand"] == "wave with the left hand"


def test_the_demo_model_needs_no_downloaded_text_encoder():
    model = dynapurls_jax.load_pretrained("demo")
    assert "SYNTHETIC" in read_card(FILE.with_name("demo.safetensors"))
    seen, unseen = model.model.seen[0], model.model.candidates[0]
    waving = clip(right_hand="hang > (head out > overhead aside)*3 > hang")
    found = model.predict(waving, [seen, unseen, "wave a hand"], "kinect_v1")
    assert set(found.labels) == {seen, unseen, "wave a hand"}
    assert found.none_of_these is None
