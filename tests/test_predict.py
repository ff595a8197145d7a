"""`python -m dynapurls_jax.predict` as users type it, on clips that the tests animate."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.animation import SKELETON, animate
from data_pipelines.formats.clip_archive import archive_of_clips, write_archive
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_file import write_model
from dynapurls_jax.text.hashing import Hashing
from tests.helpers.cases import slow
from tests.helpers.commands import run
from tests.helpers.runs import changed, fitted

SKETCHES = {
    "wave": {"right hand": "hang > (head out > head near)*2 > hang"},
    "raise both hands": {"both hands": "hang > top > hang"},
}


def clips_of(name, count):
    """Animations of one sketch by persons of several sizes, `[1, T, 20, 3]`."""
    clip = animate(parse_sketch(SKETCHES[name], name, "test"), 24)[None]
    return [clip * (1 + 0.05 * number) for number in range(count)]


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    """A model of hashed words, and a folder of clips: an archive and an array."""
    folder = tmp_path_factory.mktemp("predict")
    trained_run = changed(trained[1], {"text.encoder": "hashing", "adapter.name": "balanced"})
    names = ("walk", "run", "wave hand", "raise hands", "bow", "clap hands", "kick", "sit")
    words = Hashing().encode(list(names))  # those of the corpus share all their words
    text = np.repeat(words[:, None], 8, axis=1)
    inputs = dataclasses.replace(trained_run.inputs, text=text)
    model = model_of(fitted(dataclasses.replace(trained_run, inputs=inputs), "ridge"))
    write_model(model, folder / "model.safetensors")
    clips = clips_of("wave", 3) + clips_of("raise both hands", 2)
    archive = archive_of_clips(
        clips,
        labels=np.array([0, 0, 0, 1, 1], np.int32),
        class_names=tuple(SKETCHES),
        joint_names=SKELETON.joints,
    )
    (folder / "clips").mkdir()
    write_archive(folder / "clips" / "small.npz", archive)
    np.save(folder / "clips" / "still.npy", np.repeat(clips[0][0][:1], 9, axis=0))
    return folder


def predict(files, *arguments):
    model = f"--model={files / 'model.safetensors'}"
    return run("dynapurls_jax.predict", model, *arguments, cwd=files, DYNAPURLS_DATA=str(files))


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_is_answered_a_bad_clip_reported_and_the_score_is_last(files):
    done = predict(files, "--clips=clips", "--skeleton=kinect_v1", "--score", "--top=1")
    assert done.returncode == 0, done.stderr
    *found, score = lines_of(done.stdout)
    assert [record["id"] for record in found] == [f"small/{n}" for n in range(5)]
    assert all(record["action"] in SKETCHES for record in found)
    assert all(record["top"] == [[record["action"], record["confidence"]]] for record in found)
    assert "left out: " in done.stderr
    assert "still.npy" in done.stderr
    hits = [record["action"] == ("wave" if n < 3 else "raise both hands")
            for n, record in enumerate(found)]  # fmt: skip
    assert score["clips"] == 5
    assert score["classes"] == 2
    assert score["accuracy"] == pytest.approx(np.mean(hits), abs=1e-4)
    of_class = [np.mean(hits[:3]), np.mean(hits[3:])]
    assert score["macro_accuracy"] == pytest.approx(np.mean(of_class), abs=1e-4)
    assert 0 <= score["static_macro_accuracy"] <= 1


@pytest.mark.slow
def test_actions_come_from_flags_or_a_file_and_lines_go_to_a_file(files):
    (files / "actions.txt").write_text("bow\n\nwave\n")
    for flag in ("--actions=bow, wave", "--actions_file=actions.txt"):
        done = predict(files, "--clips=clips/small.npz", flag, "--out=found.jsonl")
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        found = lines_of((files / "found.jsonl").read_text())
        assert len(found) == 5
        assert all({name for name, _ in record["top"]} == {"bow", "wave"} for record in found)
        assert "5 predictions: found.jsonl" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips=clips/still.npy", "--skeleton=kinect_v1"], "none of 1 clips can be used"),
        (["--clips=clips/small.npz", "--adapter=balance"], "did you mean 'balanced'"),
        slow(["--clips=nothing"], "found none at nothing"),
        slow(["--clips=clips/small.npz", "--actions=a", "--actions_file=b"], "got both"),
        slow(["--clips=clips/small.npz", "--actions=wave,wave"], "got 'wave' twice"),
        slow(["--clips=clips/small.npz", "--model=universl"], "unknown pretrained model"),
        slow([], "expected --clips=FILE_OR_FOLDER"),
        slow(["--clips=clips/small.npz", "--actions=,"], "--actions: expected names of actions"),
        slow(["--clips=clips/small.npz", "--out=none/x.jsonl"], "--out: expected a file in a "),
    ],
)
def test_mistakes_are_named(files, arguments, message):
    done = predict(files, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_online_answers_know_nothing_of_later_clips(files):
    """The first answer online is that without adaptation; together, it need not be."""
    clips, flags = "--clips=clips/small.npz", ["--actions=bow, wave", "--top=2"]
    online, static = (
        lines_of(predict(files, clips, *flags, more).stdout)
        for more in ("--online", "--adapter=static")
    )
    assert online[0] == static[0]
    assert online[1:] != static[1:]


def test_labels_change_no_prediction(files):
    """The same clips with other labels; one class has no clip in the second archive."""
    clips = clips_of("wave", 2) + clips_of("raise both hands", 1)
    printed = []
    for number, labels in enumerate([(0, 0, 1), (1, 1, 1)]):
        archive = archive_of_clips(
            clips,
            labels=np.array(labels, np.int32),
            class_names=tuple(SKETCHES),
            joint_names=SKELETON.joints,
        )
        folder = files / f"labels{number}"
        folder.mkdir()
        write_archive(folder / "same.npz", archive)
        done = predict(files, f"--clips={folder}", "--score")
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines())
    assert printed[0][:-1] == printed[1][:-1]
    assert printed[0][-1] != printed[1][-1]


@pytest.mark.slow
def test_a_model_file_answers_a_stream_of_any_skeleton(files):
    frames = 1000 * np.tile(clips_of("wave", 1)[0][0], (2, 1, 1))
    lines = [json.dumps({"frame": f.tolist(), "time": n / 20}) for n, f in enumerate(frames)]
    lines += [json.dumps({"add": "bow"}), json.dumps({"clip": frames[:24].tolist()})]
    (files / "requests.jsonl").write_text("\n".join(lines))
    done = run(
        "dynapurls_jax.stream_eval",
        "--input=requests.jsonl",
        "--model=model.safetensors",
        "--actions=wave,raise both hands",
        "--skeleton=kinect_v1",
        "--top=2",
        cwd=files,
        DYNAPURLS_DATA=str(files),
    )
    assert done.returncode == 0, done.stderr
    *windows, added, answer = lines_of(done.stdout)
    assert [w["to"] for w in windows] == [2.0]
    assert added["added"] == "bow"
    assert len(answer["top"]) == 2
    assert "lengths are in millimetres" in done.stderr
    wrong = run("dynapurls_jax.stream_eval", "--input=-", "--up=z", cwd=files)
    assert "--up goes with --skeleton" in wrong.stderr
    wrong = run("dynapurls_jax.stream_eval", "--top=2", cwd=files)
    assert "--top goes with --input" in wrong.stderr


@pytest.mark.slow
def test_a_page_plays_the_clips_and_shows_labels_with_the_score_alone(files):
    """A class of the archive that is no action here is in the page with --score alone."""
    arguments = ["--clips=clips", "--skeleton=kinect_v1", "--actions=wave,bow"]
    for more, shown in ((["--score"], True), ([], False)):
        done = predict(files, *arguments, "--page=page.html", *more)
        assert done.returncode == 0, done.stderr
        assert "page: page.html" in done.stderr
        assert len(lines_of(done.stdout)) == 5 + shown
        text = (files / "page.html").read_text("utf-8")
        assert "<title>clips: actions recognised from text</title>" in text
        assert "<td>5; 1 more cannot be used</td>" in text
        assert text.count('"data":') == 5
        assert ("raise both hands" in text) == shown
