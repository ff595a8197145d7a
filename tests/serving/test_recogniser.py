"""The Python interface, with a small exported model."""

from functools import partial

import jax
import numpy as np
import pytest

import dynapurls_jax
from data_pipelines.animation import animate
from data_pipelines.clip_files import clip_from_array
from data_pipelines.errors import DataError
from data_pipelines.layouts import LAYOUTS
from data_pipelines.skeletons import KINECT_V1, KINECT_V2, map_joints
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.serving import model_inputs, pipeline
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_file import write_model
from dynapurls_jax.serving.model_inputs import ModelInputs, checked_actions
from dynapurls_jax.serving.sensor import model_clip
from tests.helpers.runs import changed

ACTIONS = ["wave", "sit down", "drink"]


class Words:
    """A text encoder with a random vector for each word."""

    digest = "words"

    def encode(self, texts):
        rows = [
            sum(np.random.default_rng(len(w) + ord(w[0])).normal(size=12) for w in t.split())
            for t in texts
        ]
        return np.stack(rows).astype(np.float32)


@pytest.fixture
def model(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(model_inputs, "make_text_encoder", lambda settings: Words())
    run = changed(trained[1], {"adapter.name": "balanced"})
    write_model(model_of(run), tmp_path / "small.safetensors")
    return dynapurls_jax.load_pretrained(tmp_path / "small.safetensors")


def moving(frames=20):
    """A person who waves, `[T, 20, 3]`."""
    sketch = parse_sketch({"right hand": "hang > (head out > head near)*2 > hang"}, "wave", "test")
    return animate(sketch, frames)


def test_a_clip_is_recognised_among_sentences(model):
    found = model.predict(moving(), ACTIONS, skeleton="kinect_v1")
    assert sorted(found.labels) == sorted(ACTIONS)
    assert found.label == found.labels[0]
    np.testing.assert_allclose(found.probabilities.sum(), 1, atol=1e-5)
    assert (np.diff(found.probabilities) <= 0).all()
    again = model.predict(moving(), ACTIONS[::-1], skeleton="kinect_v1")
    assert again.labels == found.labels


def test_predictions_do_not_depend_on_unit_and_position(model):
    clip = moving()
    expected = model.predict(clip, ACTIONS, "kinect_v1").probabilities
    moved = 1000 * (clip + np.array([0.5, -2.0, 0.0], np.float32))
    found = model.predict(moved, ACTIONS, "kinect_v1").probabilities
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_other_joints_are_mapped(model):
    clip = map_joints(moving()[None], KINECT_V1, KINECT_V2)[0]
    expected = model.predict(moving(), ACTIONS, "kinect_v1")
    found = model.predict(clip, ACTIONS, "ntu")
    assert found.label == expected.label
    with pytest.raises(ValueError, match=r"skeleton coco_17: expected 17 joints, got 25"):
        model.predict(clip, ACTIONS, "coco_17")
    with pytest.raises(DataError, match=r"expected the skeleton of 20 joints without names"):
        model.predict(moving(), ACTIONS)
    assert len(LAYOUTS["coco_17"]) == 17


def test_a_stream_adapts_and_its_actions_can_change(model):
    stream = model.stream(ACTIONS)
    first = stream(moving(), "kinect_v1")
    assert first.labels == model.predict(moving(), ACTIONS, "kinect_v1").labels
    for _ in range(3):
        stream(moving(), "kinect_v1")
    assert int(stream.live.state.samples) == 4
    stream.add("bow")
    stream.remove("drink")
    assert set(stream.actions) == {"wave", "sit down", "bow"}
    assert set(stream(moving(), "kinect_v1").labels) == {"wave", "sit down", "bow"}
    stream.reset()
    with pytest.raises(ValueError, match="'bow' exists already"):
        stream.add("bow", "somebody bows")
    with pytest.raises(ValueError, match="no class 'drink'"):
        stream.remove("drink")


def test_a_look_equals_the_next_prediction_and_does_not_change_the_state(model):
    stream = model.stream(ACTIONS)
    for number in range(3):
        stream((1 + 0.1 * number) * moving(20 + number), "kinect_v1")
    before = jax.tree.map(np.asarray, stream.live.state)
    looked = stream.look(moving(), "kinect_v1")
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, stream.live.state))
    answered = stream(moving(), "kinect_v1")
    assert looked.labels == answered.labels
    np.testing.assert_allclose(looked.probabilities, answered.probabilities, atol=1e-5)
    assert int(stream.live.state.samples) == 4


@pytest.mark.parametrize("learn", [True, False])
def test_batched_predictions_equal_single_ones(model, learn):
    """Two batches and two more clips; one clip is not finite, one cannot be used."""
    clips = [
        model_clip(clip_from_array((1 + 0.02 * n) * moving(20 + n), "kinect_v1"), model.model)
        for n in range(11)
    ]
    clips[2], clips[5] = np.full_like(clips[2], np.nan), clips[5][:, :1]
    one, many = model.stream(ACTIONS).live, model.stream(ACTIONS).live
    reads = (lambda clip=clip: clip for clip in clips)
    found = list(pipeline.recognise_all(many, reads, learn, size=4))
    assert isinstance(found.pop(5), ValueError)
    alone = [(one.predict if learn else one.look)(clip) for clip in clips[:5] + clips[6:]]
    assert [each.skipped for each in found] == [n == 2 for n in range(10)]
    for batched, single in zip(found, alone, strict=True):
        assert (batched.labels, batched.adapted) == (single.labels, single.adapted)
        np.testing.assert_allclose(batched.probabilities, single.probabilities, atol=2e-3)
    assert int(many.state.samples) == int(one.state.samples) == 10 * learn
    assert int(many.state.skipped) == learn


def test_the_number_of_clips_read_in_advance_is_bounded(model):
    """Predictions are available before all clips are read."""
    read, stream = [], model.stream(ACTIONS)

    def clip(number):
        read.append(number)
        return model_clip(clip_from_array(moving(), "kinect_v1"), model.model)

    answers = pipeline.recognise_all(
        stream.live, (partial(clip, number) for number in range(40)), size=4
    )
    next(answers)
    assert 8 <= len(read) <= 16  # two started batches, two in advance
    assert len(list(answers)) == 39
    assert sorted(read) == list(range(40))


def test_classes_of_the_training_have_their_texts(model):
    names = model.model.classes.names
    inputs = ModelInputs(model.model)
    kept = inputs.classes([names[2], "wave"])
    np.testing.assert_array_equal(kept.text[0], model.model.classes.text[2])
    other = inputs.classes({names[2]: "somebody sits", "wave": "a person waves"})
    assert np.abs(other.text[0] - kept.text[0]).max() > 0.01


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([], "expected 1 to 1000, got 0"),
        ([str(n) for n in range(1001)], "expected 1 to 1000, got 1001"),
        (["wave", " "], "expected names, got an empty one at 2"),
        (["wave", "wave "], "expected different names, got 'wave' twice"),
        ("wave", "expected a list of names, got the text 'wave'"),
    ],
)
def test_wrong_actions_are_refused(actions, message):
    with pytest.raises(ValueError, match=message):
        checked_actions(actions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip: clip[:1], "frame"),
        (lambda clip: clip * 0, "zero|position"),
        (lambda clip: np.full_like(clip, np.nan), "finite|NaN"),
        (lambda clip: np.repeat(clip[:1], 9, axis=0), "mo(ve|tion)"),
        (lambda clip: clip[..., 0], r"expected \[T, V, 3\]"),
    ],
)
def test_clips_that_cannot_be_used_are_refused(model, change, message):
    with pytest.raises(ValueError, match=message):
        model.predict(change(moving()), ACTIONS, "kinect_v1")


def test_persons_with_the_most_motion_are_kept(model):
    still = np.repeat(moving()[:1], 20, axis=0)
    clip = clip_from_array(np.stack([still + 2, moving(), still]), "kinect_v1")
    kept = model_clip(clip, model.model)
    assert len(kept) == 1
    np.testing.assert_allclose(kept[0], clip.joints[1], atol=1e-6)


def test_pretrained_names_are_checked():
    with pytest.raises(ValueError, match="unknown pretrained model, file or workdir 'unversal'"):
        dynapurls_jax.load_pretrained("unversal")
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        _ = dynapurls_jax.load
