"""Live streams: answers equal the predictions of an evaluation, and no state is lost."""

import dataclasses
import io
import json
import os
import signal

import jax
import numpy as np
import pytest

from data_pipelines.formats.sample_stream import read_requests
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.adaptation.api import run_stream
from dynapurls_jax.evaluation.tasks import setup_of, unseen_task
from dynapurls_jax.serving import model_inputs, stream_checkpoint
from dynapurls_jax.serving.answer import answer_all
from dynapurls_jax.serving.frame_window import FrameWindow
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_inputs import ModelInputs
from dynapurls_jax.serving.replies import Replies
from dynapurls_jax.training.stages import WorkdirMismatchError
from tests.helpers.runs import changed, fitted, score_only
from tests.helpers.trained import small_config, small_inputs, train_small

SLOW = (pytest.param(name, marks=pytest.mark.slow) for name in ("balanced", "dynapurls", "static"))
every_adapter = pytest.mark.parametrize("adapter", ["adanpc", *SLOW])


def requests(*records):
    """Requests as read from a pipe."""
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    return list(read_requests(io.BufferedReader(io.BytesIO(b"\n".join(lines)))))


def replies_of(model, gate=None, window=(1.0, 0.5), **options):
    """The replies of a new stream of a model."""
    model = dataclasses.replace(model, gate=gate)
    live = LiveStream(ModelInputs(model), gate=gate is not None, **options)
    return Replies(live, FrameWindow(*window))


def start(run, adapter="adanpc", **options):
    """The replies of a new stream of a run, with a test-time method."""
    return replies_of(model_of(changed(run, {"adapter.name": adapter})), **options)


def unseen_clips(run):
    """Raw clips of unseen classes."""
    return [run.inputs.corpus.clips[i] for i in run.protocol.unseen_test]


def clip_requests(run, count):
    """The first unseen clips as records."""
    return [{"clip": clip.tolist()} for clip in unseen_clips(run)[:count]]


@pytest.fixture(scope="module")
def run(trained):
    """The run of the shared workdir, with a constant learning rate."""
    return changed(trained[1], {"adapter.dynapurls.anneal": False})


@pytest.fixture
def live(run):
    """A new stream without adaptation."""
    return start(run, "static")


@every_adapter
def test_clips_and_tokens_get_the_predictions_of_an_evaluation(run, adapter):
    live, same = start(run, adapter), changed(run, {"adapter.name": adapter})
    task, setup = unseen_task(same), setup_of(same)
    batch = setup.adapter(setup.method(same.variables, task.features, len(task.labels)))
    state = batch.init(task.candidates, key=jax.random.key(0))
    _, expected = run_stream(batch, state, task.features)
    indices, clips = run.protocol.unseen_test, unseen_clips(run)
    records = [
        {"clip": clip.tolist(), "id": i}
        if i % 2
        else {"tokens": np.asarray(run.tokens[indices[i]]).tolist(), "id": i}
        for i, clip in enumerate(clips)
    ]
    answers = [live.answer(request) for request in requests(*records)]
    names = [run.inputs.corpus.class_names[c] for c in run.protocol.unseen]
    assert [a["class"] for a in answers] == [names[c] for c in expected.label]
    assert [a["id"] for a in answers] == list(range(len(clips)))
    np.testing.assert_allclose([a["confidence"] for a in answers], expected.confidence, atol=1e-3)
    assert [a["adapted"] for a in answers] == expected.adapted.tolist()
    assert all(a["latency_ms"] > 0 for a in answers)


@pytest.mark.parametrize(
    "make", [lambda run: fitted(run, "ridge"), score_only], ids=["ridge", "score"]
)
def test_other_zero_shot_methods_are_served(run, make):
    run = make(run)
    live, task = start(run, "static"), unseen_task(run)
    expected = run.method.score(run.variables, task.features, task.candidates).argmax(axis=-1)
    answers = [live.answer(request) for request in requests(*clip_requests(run, 3))]
    names = [run.inputs.corpus.class_names[c] for c in run.protocol.unseen]
    assert [a["class"] for a in answers] == [names[c] for c in expected[:3]]


def test_npy_arrays_are_read_from_a_stream(run, live):
    clips = unseen_clips(run)[:3]
    stream = io.BytesIO()
    for clip in clips:
        np.save(stream, clip[0])  # without the axis of persons
    np.save(stream, np.asarray(run.tokens[0]))
    np.save(stream, np.zeros(5))
    stream.write(b"and rubbish")
    found = list(read_requests(io.BufferedReader(io.BytesIO(stream.getvalue()))))
    assert [r.kind for r in found] == ["clip"] * 3 + ["tokens", "bad", "bad"]
    assert "expected [M, T, V, 3]" in found[4].value
    assert "the rest is not read" in found[5].value
    np.testing.assert_array_equal(found[0].value, clips[0])
    by_line = live.answer(requests({"clip": clips[0].tolist()})[0])["class"]
    assert live.answer(requests({"reset": True})[0])["reset"] is True
    assert live.answer(found[0])["class"] == by_line


def test_invalid_requests_are_answered_with_the_reason_and_have_no_effect(live):
    before = jax.tree.map(np.asarray, live.stream.state)
    wrong = {
        b"{": "not a readable JSON file",
        b"\xff\xfe": "not a readable JSON file",
        b"[1, 2]": "expected an object with one of clip, frame, tokens",
        b'{"clip": [[1, 2], [3]]}': "clip: ",
        b'{"clip": [[1, 2, 3]]}': "expected [M, T, V, 3] or [T, V, 3], got [1, 3]",
        b'{"clip": [[[1, 2, 3]]]}': "expected 20 joints (kinect_v1), got 1",
        b'{"tokens": [[1, 2], [3, 4]]}': "tokens: expected [60, ",
        b'{"tokens": [["a"]]}': "tokens: ",
        b'{"retire": "juggling"}': "no class 'juggling': expected one of 'class",
        b'{"retire": 3}': "expected a class name, got 3",
        b'{"clip": 1, "tokens": 2}': "expected an object with one of",
    }
    for request, message in zip(requests(*wrong), wrong.values(), strict=True):
        answer = live.answer(request)
        assert message in answer["error"], answer
        assert "class" not in answer
    empty = {"clip": np.zeros((4, 20, 3)).tolist()}
    assert "two frames or more" in live.answer(requests(empty)[0])["error"]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, live.stream.state), before)


def test_a_non_finite_sample_is_skipped_and_counted(run, live):
    clip = unseen_clips(run)[0].copy()
    clip[0, 1, 2, 0] = np.nan
    answer = live.answer(requests({"clip": clip.tolist()})[0])
    assert answer["class"] is None
    assert answer["skipped"] == "not finite"
    assert (int(live.stream.state.samples), int(live.stream.state.skipped)) == (1, 1)


@every_adapter
def test_classes_are_added_and_retired_by_their_names(run, monkeypatch, adapter):
    vectors = run.inputs.text[run.protocol.seen[0]]
    monkeypatch.setattr(model_inputs, "class_vector", lambda *_: vectors)
    monkeypatch.setattr(ModelInputs, "_text_encoder", None)
    live = start(run, adapter, capacity=3)
    [clip] = clip_requests(run, 1)
    known = [name for name in live.stream.names if name]
    replies = [
        live.answer(r)
        for r in requests(
            {"add": "new", "texts": {}},
            {"add": "new", "texts": {}},
            {"add": "one more", "texts": {}},
            {"retire": known[0]},
            {"retire": known[1]},
            clip,
            {"retire": "new"},
            clip,
            {"reset": True},
            {"add": "another", "texts": {}},
            clip,
            clip,
        )
    ]
    assert replies[0]["added"] == "new"
    assert "exists already" in replies[1]["error"]
    assert "all 3 slots are taken" in replies[2]["error"]
    assert [r.get("retired") for r in replies[3:5]] == known
    assert replies[5]["class"] == "new"
    assert replies[6]["retired"] == "new"
    assert "no class to choose from: add one" in replies[7]["error"]
    assert replies[8]["reset"] is True
    assert replies[9]["added"] == "another"
    assert [r["class"] for r in replies[10:]] == ["another"] * 2


@pytest.mark.parametrize("name", ["purls", "ridge"])
def test_a_new_class_has_the_candidate_of_an_equal_class_of_the_corpus(run, monkeypatch, name):
    """A seen class that is added by its text has the same candidate as in an evaluation."""
    run = fitted(run, name) if name == "ridge" else run
    added = run.protocol.seen[0]
    monkeypatch.setattr(model_inputs, "class_vector", lambda *_: run.inputs.text[added])
    monkeypatch.setattr(ModelInputs, "_text_encoder", None)
    live = start(run, "static", capacity=3)
    live.answer(requests({"add": "new", "texts": {}})[0])
    expected = run.candidates_of(np.array([added])).classes[0]
    np.testing.assert_allclose(live.stream.state.candidates.classes[2], expected, atol=1e-6)


@pytest.mark.parametrize("encoder", ["precomputed", "clip"])
def test_a_new_class_without_a_text_encoder_is_refused(run, encoder):
    overrides = {"text.model": "/no/such/folder", "text.precomputed": "vectors.npz"}
    run = changed(run, {"text.encoder": encoder} | overrides)
    live = start(run, "static", capacity=3)
    answer = live.answer(requests({"add": "cheer", "texts": {}})[0])
    assert "encoder" in answer["error"]


def test_an_unsupported_test_time_method_is_refused(run):
    with pytest.raises(ValueError, match="expected adapter tpt_residual"):
        start(run, "tpt")


@pytest.mark.parametrize("drawn", [True, False])
def test_a_new_class_with_a_sketch_equals_a_class_of_the_corpus(tmp_path, monkeypatch, drawn):
    """A seen class that is added by its text and sketch has the same candidate as in a run."""
    config = small_config()
    config.encoder.name, config.method.name, config.adapter.name = "kinematics", "sketch", "static"
    record = {"both hands": "hang > chest front > hang"}
    sketches = [parse_sketch(record, "push", "a file"), *[None] * 7]
    run = train_small(dataclasses.replace(small_inputs(config), sketches=tuple(sketches)), tmp_path)
    added = 0 if drawn else 1
    monkeypatch.setattr(model_inputs, "class_vector", lambda *_: run.inputs.text[added])
    monkeypatch.setattr(ModelInputs, "_text_encoder", None)
    live = replies_of(model_of(run), capacity=3)
    live.answer(requests({"add": "new", "texts": {"sketch": record} if drawn else {}})[0])
    expected = run.candidates_of(np.array([added])).classes[0]
    np.testing.assert_allclose(live.stream.state.candidates.classes[2], expected, atol=1e-4)
    wrong = {"sketch": {"hips": "fly"}}
    answer = live.answer(requests({"add": "another", "texts": wrong})[0])
    assert "sketch of class 'another': hips: expected waypoints" in answer["error"]


def test_a_class_of_a_run_on_features_is_added_without_its_sketch(run, monkeypatch):
    """Without an encoder a method with sketches uses only the text of a new class."""
    run = fitted(changed(run, {"adapter.name": "static"}), "sketch")
    inputs = dataclasses.replace(run.inputs, clips=None)
    live = replies_of(model_of(dataclasses.replace(run, inputs=inputs, encoder=None)), capacity=3)
    monkeypatch.setattr(model_inputs, "class_vector", lambda *_: run.inputs.text[0])
    monkeypatch.setattr(ModelInputs, "_text_encoder", None)
    texts = {"sketch": {"hips": "sit"}}
    assert live.answer(requests({"add": "new", "texts": texts})[0]) == {"line": 1, "added": "new"}
    expected = run.candidates_of(np.array([0])).classes[0]
    np.testing.assert_allclose(live.stream.state.candidates.classes[2], expected, atol=1e-5)


def test_a_run_on_features_accepts_only_tokens(run):
    inputs = dataclasses.replace(run.inputs, clips=None)
    live = start(dataclasses.replace(run, inputs=inputs, encoder=None), "static")
    tokens = {"tokens": np.asarray(run.tokens[0]).tolist()}
    clip, by_tokens = requests(*clip_requests(run, 1), tokens)
    assert "expected tokens, got a clip" in live.answer(clip)["error"]
    assert live.answer(by_tokens)["class"] in live.stream.names


@pytest.mark.parametrize(
    "kind", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_takes_effect_after_the_answer_is_saved(run, tmp_path, kind, monkeypatch):
    live = start(run)
    answer, answers = live.answer, []

    def interrupted(request):
        if request.line == 2:
            os.kill(os.getpid(), kind)
        return answer(request)

    monkeypatch.setattr(live, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        answers.extend(answer_all(live, requests(*clip_requests(run, 4)), tmp_path))
    again = start(run)
    assert list(answer_all(again, [], tmp_path)) == []
    assert int(again.stream.state.samples) == 2
    jax.tree.map(np.testing.assert_array_equal, again.stream.state, live.stream.state)


def test_malformed_lines_are_answered_and_the_next_line_is_read():
    deep = b'{"tokens": ' + b"[" * 200_000
    huge = b'{"tokens": [[1' + b"0" * 400 + b"]]}"
    kinds = [r.kind for r in requests(deep, huge, b'{"reset": false}', {"reset": True})]
    assert kinds == ["bad", "bad", "bad", "reset"]
    assert requests(b"") == []


@every_adapter
def test_an_interrupted_stream_resumes_bit_identically(run, tmp_path, monkeypatch, adapter):
    monkeypatch.setattr(stream_checkpoint, "SAVE_EVERY", 2)
    clips = clip_requests(run, 6)
    whole = start(run, adapter)
    stream = requests(*clips[:3], {"retire": whole.stream.names[0]}, *clips[3:])
    expected = [whole.answer(request) for request in stream]

    def interrupted():
        yield from stream[:5]
        raise KeyboardInterrupt

    first, answers = start(run, adapter), []
    with pytest.raises(KeyboardInterrupt):
        answers.extend(answer_all(first, interrupted(), tmp_path))
    second = start(run, adapter)
    rest = list(answer_all(second, stream[5:], tmp_path))
    assert second.stream.names[0] is None
    for a, b in zip(expected[5:], rest, strict=True):
        assert {**a, "latency_ms": 0} == {**b, "latency_ms": 0}
    jax.tree.map(np.testing.assert_array_equal, second.stream.state, whole.stream.state)
    other = start(run, "static" if adapter != "static" else "adanpc")
    with pytest.raises(WorkdirMismatchError, match="adapter: it has"):
        list(answer_all(other, [], tmp_path))
