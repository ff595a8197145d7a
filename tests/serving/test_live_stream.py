"""Answering requests one by one: the same answers as an evaluation, and nothing lost."""

import io
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.formats.sample_stream import read_requests
from dynapurls_jax.adaptation import run_stream
from dynapurls_jax.adaptation.registry import make_adapter, make_method
from dynapurls_jax.evaluation.streams import candidate_text
from dynapurls_jax.text.encoders import make_text_encoder
from dynapurls_jax.text.features import class_vector
from dynapurls_jax.training import stream_checkpoint
from dynapurls_jax.training import live as live_module
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.serving.live_stream import LiveStream, answer_all
from dynapurls_jax.training.run import train_one
from dynapurls_jax.training.stages import WorkdirMismatchError
from tests.test_training import SPLIT, small_config, small_inputs


def requests(*records):
    """Requests as they would come through a pipe."""
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    return list(read_requests(io.BufferedReader(io.BytesIO(b"\n".join(lines)))))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A trained small workdir."""
    folder = tmp_path_factory.mktemp("workdir")
    return folder, train_one(small_inputs(), folder, SPLIT, 0)


def start(workdir, adapter="dynapurls", **options):
    """A fresh stream, its adapter by name."""
    config = small_config()
    config.eval.adapter = adapter
    config.refine.anneal = False
    return LiveStream(small_inputs(config), workdir[0], SPLIT, 0, **options)


def unseen_clips(run):
    """Clips of the unseen stream, as cameras have them."""
    return [small_inputs().corpus.clips[i] for i in run.protocol.unseen_test]


@pytest.mark.parametrize("adapter", ["dynapurls", "balanced", "static"])
def test_clips_and_tokens_get_the_answers_of_an_evaluation(workdir, adapter):
    _, run = workdir
    live = start(workdir, adapter)
    inputs = small_inputs(live._inputs.config)
    index = run.protocol.unseen_test
    model = model_of(inputs.config, inputs.text.shape[-1])
    stream = model.encode(run.variables, run.tokens_of(index))
    text = candidate_text(jnp.asarray(inputs.text), run.protocol.seen, run.protocol.unseen)
    method = make_method(adapter, inputs.config, model, run.variables, stream, len(index))
    same = make_adapter(inputs.config, method)
    _, expected = run_stream(same, same.init(text, key=jax.random.key(0)), stream)
    clips = unseen_clips(run)
    records = [
        {"clip": clip.tolist(), "id": i}
        if i % 2
        else {"tokens": np.asarray(run.tokens[index[i]]).tolist(), "id": i}
        for i, clip in enumerate(clips)
    ]
    answers = [live.answer(request) for request in requests(*records)]
    names = [inputs.corpus.class_names[c] for c in run.protocol.unseen]
    assert [a["class"] for a in answers] == [names[c] for c in expected.label]
    assert [a["id"] for a in answers] == list(range(len(clips)))
    np.testing.assert_allclose([a["confidence"] for a in answers], expected.confidence, atol=1e-3)
    assert [a["adapted"] for a in answers] == expected.adapted.tolist()
    assert all(a["latency_ms"] > 0 for a in answers)


def test_npy_arrays_come_one_after_the_other(workdir):
    _, run = workdir
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
    live = start(workdir)
    by_lines = [start(workdir).answer(r)["class"] for r in requests({"clip": clips[0].tolist()})]
    assert live.answer(found[0])["class"] == by_lines[0]


def test_bad_requests_are_answered_with_what_is_wrong_and_change_nothing(workdir):
    live = start(workdir)
    before = jax.tree.map(np.asarray, live.state)
    wrong = {
        b"{": "not valid JSON",
        b"\xff\xfe": "not valid JSON",
        b"[1, 2]": "expected an object with one of clip, tokens",
        b'{"clip": [[1, 2], [3]]}': "clip: ",
        b'{"clip": [[1, 2, 3]]}': "expected [M, T, V, 3] or [T, V, 3], got [1, 3]",
        b'{"clip": [[[1, 2, 3]]]}': "expected 20 joints (kinect_v1), got 1",
        b'{"tokens": [[1, 2], [3, 4]]}': "tokens: expected [60, 32], got [2, 2]",
        b'{"tokens": [["a"]]}': "tokens: ",
        b'{"retire": "juggling"}': "no class 'juggling'; there are class",
        b'{"retire": 3}': "expected a class's name, got 3",
        b'{"clip": 1, "tokens": 2}': "expected an object with one of",
    }
    for request, message in zip(requests(*wrong), wrong.values(), strict=True):
        answer = live.answer(request)
        assert message in answer["error"], answer
        assert "class" not in answer
    empty = {"clip": np.zeros((4, 20, 3)).tolist()}
    assert "two frames or more" in live.answer(requests(empty)[0])["error"]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, live.state), before)


def test_what_is_not_finite_is_skipped_and_counted(workdir):
    live = start(workdir)
    clip = unseen_clips(workdir[1])[0].copy()
    clip[0, 1, 2, 0] = np.nan
    answer = live.answer(requests({"clip": clip.tolist()})[0])
    assert answer["class"] is None
    assert answer["skipped"] == "not finite"
    assert (int(live.state.samples), int(live.state.skipped)) == (1, 1)


@pytest.mark.parametrize("adapter", ["dynapurls", "balanced", "static"])
def test_classes_are_added_and_retired_by_their_names(workdir, monkeypatch, adapter):
    _, run = workdir
    inputs = small_inputs()
    monkeypatch.setattr(live_module, "class_vector", lambda *_: inputs.text[run.protocol.seen[0]])
    monkeypatch.setattr(LiveStream, "_text_encoder", None)
    live = start(workdir, adapter, capacity=3)
    clip = {"clip": unseen_clips(run)[0].tolist()}
    known = [name for name in live.names if name]
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
            {"reset": True},
            clip,
            clip,
        )
    ]
    assert replies[0]["added"] == "new"
    assert "is there already" in replies[1]["error"]
    assert "all 3 slots are taken" in replies[2]["error"]
    assert [r.get("retired") for r in replies[3:5]] == known
    assert replies[5]["class"] == "new"
    assert "the last class" in replies[6]["error"]
    assert replies[7]["reset"] is True
    assert [r["class"] for r in replies[8:]] == ["new"] * 2


def test_a_new_class_is_described_as_the_others_were():
    settings = small_config().text
    settings.encoder = "hashing"
    texts = dict.fromkeys(settings.template, "raise both arms")
    rows = class_vector(settings, make_text_encoder(settings), "cheer", texts)
    assert rows.shape[0] == 8
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("encoder", ["precomputed", "clip"])
def test_a_class_without_an_encoder_is_refused(workdir, encoder):
    live = start(workdir, capacity=3)
    live._inputs.config.text.encoder = encoder
    live._inputs.config.text.model = "/no/such/folder"
    answer = live.answer(requests({"add": "cheer", "texts": {}})[0])
    assert "encoder" in answer["error"]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_answer_and_the_state_is_whole(workdir, tmp_path, kind, monkeypatch):
    clips = [{"clip": clip.tolist()} for clip in unseen_clips(workdir[1])[:4]]
    live, said = start(workdir, "balanced"), []
    answer = live.answer

    def interrupted(request):
        if request.line == 2:
            os.kill(os.getpid(), kind)
        return answer(request)

    monkeypatch.setattr(live, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        said.extend(answer_all(live, requests(*clips), tmp_path))
    again = start(workdir, "balanced")
    assert list(answer_all(again, [], tmp_path)) == []
    assert int(again.state.samples) == 2
    jax.tree.map(np.testing.assert_array_equal, again.state, live.state)


def test_rubbish_of_every_kind_is_answered_and_the_next_line_is_read():
    deep = b'{"tokens": ' + b"[" * 200_000
    huge = b'{"tokens": [[1' + b"0" * 400 + b"]]}"
    kinds = [r.kind for r in requests(deep, huge, b'{"reset": false}', {"reset": True})]
    assert kinds == ["bad", "bad", "bad", "reset"]
    assert requests(b"") == []


@pytest.mark.parametrize("adapter", ["dynapurls", "balanced"])
def test_an_interrupted_stream_goes_on_bit_by_bit(workdir, tmp_path, monkeypatch, adapter):
    monkeypatch.setattr(stream_checkpoint, "SAVE_EVERY", 2)
    clips = [{"clip": clip.tolist()} for clip in unseen_clips(workdir[1])[:6]]
    retire = {"retire": start(workdir).names[0]}
    stream = requests(*clips[:3], retire, *clips[3:])
    whole = start(workdir, adapter)
    expected = [whole.answer(request) for request in stream]

    def until_it_breaks():
        yield from stream[:5]
        raise KeyboardInterrupt

    first, said = start(workdir, adapter), []
    with pytest.raises(KeyboardInterrupt):
        said.extend(answer_all(first, until_it_breaks(), tmp_path))
    second = start(workdir, adapter)
    rest = list(answer_all(second, stream[5:], tmp_path))
    assert second.names[0] is None
    for a, b in zip(expected[5:], rest, strict=True):
        assert {**a, "latency_ms": 0} == {**b, "latency_ms": 0}
    jax.tree.map(np.testing.assert_array_equal, second.state, whole.state)
    assert len(list(tmp_path.glob("classes-*.json"))) == 2  # one for each checkpoint
    other = start(workdir, "static")
    with pytest.raises(WorkdirMismatchError, match="adapter: it has"):
        list(answer_all(other, [], tmp_path))
