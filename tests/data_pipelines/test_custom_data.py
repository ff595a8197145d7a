"""Custom datasets: a folder of text, npz or .skeleton files and a dataset.yaml."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.corpus import TEST, TRAIN
from data_pipelines.custom_spec import load_spec
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats.custom import CustomReader
from data_pipelines.protocols import make_protocol
from data_pipelines.skeletons import skeleton_of_names
from tests.conftest import ROOT
from tests.helpers.commands import CLOSED_FORM, run
from tests.helpers.custom_folder import CLASSES, text_clip, write_folder, write_spec
from tests.helpers.raw_files import load
from tests.helpers.skeleton_text import as_bytes, body, one_person


def test_a_text_folder_is_a_dataset(tmp_path, cache):
    corpus = load("custom", write_folder(tmp_path / "gym"))
    assert (corpus.name, corpus.class_names) == ("gym", tuple(CLASSES))
    assert len(corpus) == 48
    row = corpus.clip_ids.index("kick_ball/s03_t1")
    assert (corpus.labels[row], corpus.subjects[row]) == (1, 3)
    np.testing.assert_allclose(corpus.clips[row][0], body(131), atol=1e-4)
    protocol = make_protocol(corpus, "4_2")
    assert [CLASSES[c] for c in protocol.unseen] == ["bow", "clap"]
    assert set(corpus.subjects[protocol.unseen_test]) == {4}
    # A new file and a changed description are detected.
    (tmp_path / "gym" / "bow" / "s04_t2.txt").write_text(text_clip(7))
    assert len(load("custom", tmp_path / "gym")) == 49
    write_folder(tmp_path / "gym", train_subjects=[4])
    assert (load("custom", tmp_path / "gym").sides["xsub"] == TRAIN).sum() == 13
    write_folder(tmp_path / "gym", metres=0.002)
    corpus = load("custom", tmp_path / "gym")
    np.testing.assert_allclose(corpus.clips[0][0], 2 * body(210), atol=1e-3)


def test_a_folder_without_data_is_a_short_error(tmp_path, cache):
    folder = tmp_path / "gym"
    with pytest.raises(FileNotFoundError, match=r"expected a folder of your data, got .*gym$"):
        load("custom", folder)
    write_folder(folder)
    for file in folder.rglob("*.txt"):
        file.unlink()
    with pytest.raises(DataError) as raised:
        load("custom", folder)
    assert str(raised.value) == f"{folder}, files *.txt: expected files to read, found none"


def test_a_corrected_description_is_read_again(tmp_path, cache):
    """Also after a failure, when part files exist."""
    folder = write_folder(tmp_path / "gym", classes=CLASSES[:-1], splits=None)
    with pytest.raises(BadFilesError, match="8 of 48 files"):
        load("custom", folder)
    write_folder(folder)
    first = load("custom", folder)
    assert len(first) == 48
    layout = {"joints": [f"j{i}" for i in range(25)], "bones": [], "spine_top": "j20"}
    layout |= {"parts": {part: ["j1"] for part in ("head", "hands", "torso", "legs")}}
    digests = {first.digest}
    for hip in ("j0", "j1"):
        skeleton = layout | {"hip_center": hip, "shoulders": ["j8", "j4"]}
        write_folder(folder, skeleton=skeleton)
        digests.add(load("custom", folder).digest)
    assert len(digests) == 3


def test_an_interrupted_preparation_keeps_the_previous_one(tmp_path, cache, monkeypatch):
    one, other = write_folder(tmp_path / "one"), write_folder(tmp_path / "other", metres=0.0011)
    before = load("custom", one)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load("custom", other)
    assert load("custom", one).digest == before.digest
    np.testing.assert_allclose(before.clips[0], load("custom", one).clips[0])


@pytest.mark.slow
def test_two_processes_prepare_once(tmp_path, cache):
    folder = write_folder(tmp_path / "gym")
    code = "from tests.helpers.raw_files import load\n"
    code += f"print(load('custom', {str(folder)!r}).digest)"
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len({digest for digest, _ in outputs}) == 1
    assert sum("prepared custom_gym" in log_lines for _, log_lines in outputs) == 1


@pytest.mark.slow
def test_train_and_stream_eval_on_a_text_folder(tmp_path):
    write_folder(tmp_path / "gym")
    arguments = [
        f"--config={ROOT}/configs/custom.py",
        f"--config.data.manual_dir={tmp_path / 'gym'}",
        "--config.splits=('4_2',)",
        "--config.text.encoder=hashing",
        *CLOSED_FORM,
    ]
    without = run("dynapurls_jax.train", *arguments, cwd=tmp_path)
    assert without.returncode == 2
    assert "no descriptions of 'gym'" in without.stderr
    assert "--config.text.descriptions=names" in without.stderr
    arguments += ["--config.text.descriptions=names"]
    trained = run("dynapurls_jax.train", *arguments, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "gym: 48 clips, 6 of 6 classes, 4 subjects" in trained.stderr
    evaluated = run("dynapurls_jax.stream_eval", "--orders=2", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "# gym: unseen classes" in evaluated.stdout
    assert "| 4_2 | 2 | 4 | 1 x 2 | 50.0 |" in evaluated.stdout
    (tmp_path / "gym" / "bow" / "s01_t0.txt").write_text("1 2 3")
    (tmp_path / "gym" / "clap" / "s01_t0.txt").write_text("")
    stopped = run("dynapurls_jax.train", *arguments, cwd=tmp_path)
    assert stopped.returncode == 2
    assert "2 of 48 files cannot be used" in stopped.stderr
    assert "bow/s01_t0.txt, line 1: expected a multiple of 75 numbers" in stopped.stderr
    assert "clap/s01_t0.txt: expected lines of numbers" in stopped.stderr


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_npz_and_npy_files_are_read(tmp_path, cache, suffix):
    clip = np.stack([body(0), body(1)])
    for name in ("c1_s1", "c1_s2", "c2_s1", "c2_s2"):
        if suffix == "npz":
            np.savez(tmp_path / f"{name}.npz", clip=clip, other=1)
        else:
            np.save(tmp_path / f"{name}.npy", clip[0])
    spec = {"name": "arrays", "format": "npz", "files": f"c{{class}}_s{{subject}}.{suffix}"}
    spec |= {"classes": ["up", "down"], "first_class": 1, "train_subjects": [1]}
    corpus = load("custom", write_spec(tmp_path, skeleton="kinect_v2", **spec))
    assert corpus.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(corpus.clips[0], clip if suffix == "npz" else clip[:1])


def test_skeleton_files_are_read_and_like_completes_the_description(tmp_path, cache):
    for label in (0, 1):
        (tmp_path / f"v{label}_c{label}.skeleton").write_bytes(as_bytes(one_person(label)))
    spec = {"name": "c", "format": "skeleton", "files": "v{view}_c{class}.skeleton"}
    corpus = load("custom", write_spec(tmp_path, like="ntu60", train_views=[0], **spec))
    assert corpus.class_names[1] == "eat meal"
    assert corpus.sides["xview"].tolist() == [TRAIN, TEST]
    assert "55_5" in corpus.splits
    assert corpus.descriptions == "ntu120"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "txt"}, "unknown format 'txt'; did you mean 'text'"),
        ({"clases": ["a"]}, "unknown key 'clases'; did you mean 'classes'"),
        ({"classes": ["wave"]}, "expected 2 or more different names"),
        ({"classes": ["wave", "wave"]}, "expected 2 or more different names"),
        ({"name": "My data"}, "lower-case letters"),
        ({"name": None}, "expected a key 'name'"),
        ({"files": "s{subject}.txt"}, r"a pattern with \{class\}"),
        ({"files": "{class}.xml"}, r"ends in \.txt or \.csv"),
        ({"metres": 0}, "metres: expected"),
        ({"classes": "walk"}, "expected 2 or more different names, got 'walk'"),
        ({"splits": ["bow"]}, "splits: expected names"),
        ({"skeleton": "kinect"}, "unknown skeleton 'kinect'; did you mean"),
        ({"skeleton": None}, "expected a key 'skeleton'"),
        ({"skeleton": {"joints": ["a"]}}, "skeleton: expected the keys joints, bones"),
        ({"like": "ntu61"}, "did you mean 'ntu60'"),
        ({"splits": {"1_1": ["bowl"]}}, "did you mean 'bow'"),
        ({"splits": {"1_1": "bow"}}, "expected a list of unseen classes"),
        ({"splits": {"pseudo-4_2-0": ["bow"]}}, "'pseudo-4_2-0' has a meaning of its own"),
        ({"splits": {"xla-cache": ["bow"]}}, "'xla-cache' has a meaning of its own"),
        ({"train_subjects": ["one"]}, "expected a list of whole numbers"),
        ({"train_subjects": None}, "expected train_subjects or train_views"),
    ],
)
def test_errors_in_the_description_are_named(tmp_path, cache, changes, message):
    folder = write_folder(tmp_path / "gym", **changes)
    with pytest.raises(DataError, match=message) as error:
        load("custom", folder)
    assert "dataset.yaml" in str(error.value)


def test_yaml_values_are_read_as_text(tmp_path, cache):
    """Without quotes, YAML reads 4_2 as the number 42 and `no` as False."""
    folder = write_folder(tmp_path / "gym")
    for old, new in (("bow", "no"), ("clap", "7")):
        (folder / old).rename(folder / new)
    (folder / "dataset.yaml").write_text(
        """
        name: gym
        format: text
        files: "{class}/s{subject}_t{take}.txt"
        skeleton: kinect_v2
        classes: [wave, kick ball, no, jump up, 7, turn around]
        metres: 1e-3
        train_subjects: [1, 2]
        splits: {4_2: [no, 7]}
        """
    )
    corpus = load("custom", folder)
    assert corpus.splits == {"4_2": (2, 4)}
    assert corpus.class_names[2:5] == ("no", "jump up", "7")
    np.testing.assert_allclose(corpus.clips[0][0], body(410), atol=1e-4)


def test_a_missing_or_invalid_description_is_an_error(tmp_path, cache):
    with pytest.raises(
        FileNotFoundError, match=r"expected a description of your dataset in .*yaml"
    ):
        load("custom", tmp_path)
    (tmp_path / "dataset.yaml").write_text("name: x\nclasses: [a, b\nformat: text")
    with pytest.raises(DataError, match=r"dataset\.yaml, line 3: not a readable YAML file"):
        load("custom", tmp_path)


def test_files_that_do_not_match_are_listed(tmp_path, cache):
    folder = write_folder(tmp_path / "gym")
    (folder / "wave" / "readme.txt").write_text("hello")
    (folder / "dance").mkdir()
    (folder / "dance" / "s01_t0.txt").write_text(text_clip(0))
    with pytest.raises(BadFilesError, match="2 of 50 files") as error:
        load("custom", folder)
    assert "readme.txt: expected a file name like {class}/s{subject}_t{take}.txt" in str(
        error.value
    )
    assert "expected a class name or a number from 0 to 5, got 'dance'" in str(error.value)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """A reader of each file format, by suffix."""
    made = {}
    for form, suffix in (("text", "txt"), ("npz", "npz"), ("npz", "npy"), ("skeleton", "skeleton")):
        folder = tmp_path_factory.mktemp(suffix)
        write_folder(folder, format=form, files=f"{{class}}.{suffix}")
        made[suffix] = CustomReader(load_spec(folder))
    return made


def _bytes_of(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


GOOD = {
    "txt": text_clip(0).encode(),
    "npz": _bytes_of(lambda file: np.savez(file, clip=body(0))),
    "npy": _bytes_of(lambda file: np.save(file, body(0))),
    "skeleton": as_bytes(one_person()),
}


@given(
    st.sampled_from(sorted(GOOD)), st.integers(0, 10**6), st.integers(0, 300), st.binary(max_size=9)
)
def test_damaged_files_are_errors_with_their_name_or_finite_clips(readers, suffix, at, cut, piece):
    content = GOOD[suffix]
    at %= len(content)
    file = f"{readers[suffix].spec.folder}/wave.{suffix}"
    try:
        clip = readers[suffix](file, content[:at] + piece + content[at + cut :])
    except DataError as error:
        assert error.file == file  # noqa: PT017
        return
    assert clip.joints.shape[2:] == (25, 3)
    assert np.isfinite(clip.joints).all()


def test_a_custom_skeleton():
    spec = {
        "joints": ["hip", "chest", "head", "left", "right", "foot"],
        "bones": [[part, "chest"] for part in ("head", "left", "right")]
        + [["chest", "hip"], ["foot", "hip"]],
        "parts": {
            "head": ["head"],
            "hands": ["left", "right"],
            "torso": ["hip", "chest"],
            "legs": ["foot"],
        },
        "hip_center": "hip",
        "spine_top": "chest",
        "shoulders": ["right", "left"],
    }
    skeleton = skeleton_of_names(spec)
    assert skeleton.parents == (0, 0, 1, 1, 1, 0)
    assert skeleton.shoulders == (4, 3)
    with pytest.raises(ValueError, match="'tail' is not one of its joints"):
        skeleton_of_names(spec | {"spine_top": "tail"})
    with pytest.raises(ValueError, match="the bones of 'hip' form a cycle"):
        skeleton_of_names(spec | {"bones": [["hip", "chest"], ["chest", "hip"]]})
    with pytest.raises(ValueError, match="expected parts with joints"):
        skeleton_of_names(spec | {"parts": ["head"]})
    with pytest.raises(ValueError, match="joints for each of head"):
        skeleton_of_names(spec | {"parts": {}})
