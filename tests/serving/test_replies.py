"""Live streams: frames, gates, open-set rejection and other skeletons."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.animation import animate
from data_pipelines.conventions import Declared
from data_pipelines.skeletons import KINECT_V1, KINECT_V2, map_joints
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.adaptation.gated import Gate
from dynapurls_jax.evaluation.evaluate_gzsl import fitted_gate, static_logits
from dynapurls_jax.serving import model_inputs
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_file import RUN_MODEL, read_model
from dynapurls_jax.serving.model_inputs import ModelInputs
from dynapurls_jax.serving.pretrained import find_model
from dynapurls_jax.serving.run_models import keep_model
from dynapurls_jax.serving.sensor import Sensor
from dynapurls_jax.training.run import load_pseudo_runs, train_all
from tests.helpers.runs import changed
from tests.helpers.trained import SPLIT, load_small, small_config, small_inputs
from tests.serving.test_live_stream import clip_requests, replies_of, requests


@pytest.fixture(scope="module")
def run(trained):
    return changed(trained[1], {"adapter.name": "balanced"})


def waving(frames=24):
    """A person who waves, `[1, T, 20, 3]` in metres."""
    sketch = parse_sketch({"right hand": "hang > (head out > head near)*2 > hang"}, "wave", "test")
    return animate(sketch, frames)[None]


def test_frames_are_predicted_in_windows_and_adapted_to_once(run):
    replies = replies_of(model_of(run))
    clip = np.tile(waving(20), (1, 3, 1, 1))
    records = [{"frame": f.tolist(), "time": 5 + n / 10} for n, f in enumerate(clip[0])]
    found = [replies.answer(request) for request in requests(*records)]
    answers = [answer for answer in found if answer is not None]
    assert [a["line"] for a in answers] == list(range(11, 61, 5))
    assert (answers[0]["from"], answers[0]["to"]) == (5.0, 6.0)
    assert int(replies.stream.state.samples) == sum(answers[n]["from"] >= 5 for n in (0, 3, 6, 9))
    whole = replies_of(model_of(run)).answer(requests({"clip": clip[:, :11].tolist()})[0])
    assert answers[0]["top"] == whole["top"]


def test_frames_without_times_have_the_declared_rate_and_low_rates_are_refused(run):
    replies = replies_of(model_of(run))
    records = [{"frame": f.tolist()} for f in waving(31)[0]]
    found = [replies.answer(request) for request in requests(*records)]
    assert [answer is not None for answer in found] == [False] * 30 + [True]
    slow = replies_of(model_of(run))
    records = [{"frame": f.tolist(), "time": n / 2} for n, f in enumerate(waving(9)[0])]
    errors = [slow.answer(request) for request in requests(*records)]
    assert "expected 5 frames a second or more" in errors[2]["error"]
    (bad,) = requests({"frame": waving(2)[0, 0].tolist(), "time": "now"})
    assert "time: expected seconds, got 'now'" in slow.answer(bad)["error"]


def test_a_reply_has_the_most_probable_actions(run):
    replies = replies_of(model_of(run), actions=list(run.inputs.corpus.class_names))
    answer = replies.answer(requests(*clip_requests(run, 1))[0])
    names, shares = zip(*answer["top"], strict=True)
    assert len(names) == 5
    assert (answer["class"], answer["confidence"]) == (names[0], shares[0])
    assert list(shares) == sorted(shares, reverse=True)
    assert answer["none_of_these"] is None


def test_a_clip_below_the_threshold_is_none_of_these(run):
    clip = clip_requests(run, 1)
    for least, expected in ((-1e9, False), (1e9, True)):
        model = dataclasses.replace(model_of(run), none_below=least)
        assert replies_of(model).answer(requests(*clip)[0])["none_of_these"] is expected


@pytest.mark.slow
def test_with_a_gate_seen_and_unseen_actions_are_candidates(run, monkeypatch):
    model = model_of(run)
    names, seen = model.classes.names, model.seen
    always = {"seen": Gate("stacking", 1.0, 1e9), "unseen": Gate("stacking", 1.0, -1e9)}
    for side, gate in always.items():
        replies = replies_of(model, gate, capacity=12)
        assert set(replies.stream.actions) == set(names)
        answer = replies.answer(requests(*clip_requests(run, 1))[0])
        assert (answer["class"] in seen) == (side == "seen")
    # A seen class that is added again is on the seen side; a new class is unseen.
    monkeypatch.setattr(model_inputs, "class_vector", lambda *_: run.inputs.text[0])
    monkeypatch.setattr(ModelInputs, "_text_encoder", None)
    replies = replies_of(model, always["seen"], capacity=9)
    for record in ({"retire": seen[0]}, {"add": "new"}, {"add": seen[0]}):
        assert "error" not in replies.answer(requests(record)[0])
    names_of_slots = replies.stream.names
    assert names_of_slots.index(seen[0]) < len(seen) <= names_of_slots.index("new")
    assert "all 3 slots are taken" in replies.answer(requests({"add": "newer"})[0])["error"]
    fewer = replies_of(model, always["seen"], actions=[f" {seen[1]}", "new"])
    assert set(fewer.stream.actions) == {seen[1], "new"}


def test_the_gate_of_a_stream_equals_that_of_the_evaluation(trained_workdir):
    run = load_small(trained_workdir)
    gate = fitted_gate(run, load_pseudo_runs(run.inputs, trained_workdir, SPLIT))
    logits = static_logits(run, run.protocol.unseen_test)
    seen = np.isin(np.arange(8), run.protocol.seen)
    best = np.where(seen, -np.inf, logits).max(1) - np.where(seen, logits, -np.inf).max(1)
    replies = replies_of(model_of(changed(run, {"adapter.name": "static"})), gate)
    answers = [replies.answer(r)["class"] for r in requests(*clip_requests(run, 4))]
    sides = [answer not in replies.stream.inputs.model.seen for answer in answers]
    assert sides == (best[:4] > gate.threshold).tolist()


def test_training_writes_a_model_file_that_needs_no_data(tmp_path, monkeypatch):
    config = small_config()
    config.splits = (SPLIT, f"pseudo-{SPLIT}-0")
    config.encoder.name, config.method.name, config.adapter.name = "kinematics", "ridge", "static"
    monkeypatch.setattr("dynapurls_jax.training.run.read_inputs", small_inputs)
    train_all(config, tmp_path, finished=keep_model)
    file = tmp_path / SPLIT / "seed0" / RUN_MODEL
    for name in (tmp_path, file.parent, file):
        assert find_model(name).seen == read_model(file).seen
    assert read_model(file).gate is not None
    monkeypatch.undo()
    run = load_small(tmp_path, config)
    records = clip_requests(run, 4)
    expected = [replies_of(model_of(run)).answer(r)["class"] for r in requests(*records)]
    found = [replies_of(find_model(tmp_path)).answer(r)["class"] for r in requests(*records)]
    assert found == expected


def test_a_sensor_estimates_its_conventions_once(run):
    model, reported = model_of(run), []
    sensor = Sensor(model, "ntu", Declared(fps=30), reported.append)
    clip = map_joints(waving(), KINECT_V1, KINECT_V2)
    expected = replies_of(model).answer(requests({"clip": waving().tolist()})[0])
    replies = replies_of(model)
    replies.sensor = sensor
    for number in range(22):  # more than are used for the estimate
        millimetres = 1000 * clip * (1 + number / 100)
        answer = replies.answer(requests({"clip": millimetres.tolist()})[0])
        assert "error" not in answer, answer
        if not number:
            assert answer["class"] == expected["class"]
    assert [s for s in reported if "millimetres" in s][:1]
    assert len(reported) == len(set(reported))
    assert (
        "expected 25 joints, got 20"
        in replies.answer(requests({"clip": waving().tolist()})[0])["error"]
    )


def test_wrong_units_are_an_error(run):
    replies = replies_of(model_of(run))
    answer = replies.answer(requests({"clip": (100 * waving()).tolist()})[0])
    assert "expected a body of 0.5 to 2.5 m, got" in answer["error"]
    flat = waving()[..., :2]
    answer = replies.answer(requests({"clip": flat.tolist()})[0])
    assert "expected 3 coordinates, got 2" in answer["error"]
