"""A folder of files and a yaml become a dataset: text, npz, .skeleton, pickles and arrays."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.corpus import NEITHER, TEST, TRAIN
from data_pipelines.datasets import load_corpus
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats.feature_folder import read_features, write_features
from data_pipelines.formats.gcn_arrays import write_agcn, write_ctr_gcn
from data_pipelines.formats.pickles import load_pickle
from data_pipelines.formats.pyskl import write_pyskl
from data_pipelines.prepared import prepare
from data_pipelines.protocols import make_protocol, side_of
from dynapurls_jax.skeletons import KINECT_V1, KINECT_V2, skeleton_of_names
from tests.conftest import ROOT, tiny_corpus
from tests.skeleton_text import as_bytes, body, one_person
from tests.test_commands import TINY, run

CLASSES = ["wave", "kick ball", "bow", "jump up", "clap", "turn around"]


def text_clip(seed: int) -> str:
    """25 joints in millimetres, a frame a line."""
    frames = 1000 * body(seed)
    return "\n".join(" ".join(f"{value:.2f}" for value in frame.ravel()) for frame in frames)


def write_folder(folder, **changes):
    """A 25-joint text folder: 6 classes, 4 subjects, 2 takes, and its description."""
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(CLASSES):
        for subject in range(1, 5):
            for take in range(2):
                file = folder / f"{name.replace(' ', '_')}" / f"s{subject:02d}_t{take}.txt"
                file.parent.mkdir(exist_ok=True)
                file.write_text(text_clip(100 * label + 10 * subject + take))
    spec = {
        "name": "gym",
        "format": "text",
        "files": "{class}/s{subject}_t{take}.txt",
        "skeleton": "kinect_v2",
        "metres": 0.001,
        "classes": CLASSES,
        "train_subjects": [1, 2, 3],
        "splits": {"4_2": ["clap", "bow"]},
    }
    spec = {key: value for key, value in (spec | changes).items() if value is not None}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))


def test_a_text_folder_is_a_dataset(tmp_path, cache):
    corpus = load_corpus("own", str(write_folder(tmp_path / "gym")))
    assert (corpus.name, corpus.class_names) == ("gym", tuple(CLASSES))
    assert len(corpus) == 48
    row = corpus.clip_ids.index("kick_ball/s03_t1")
    assert (corpus.labels[row], corpus.subjects[row]) == (1, 3)
    np.testing.assert_allclose(corpus.clips[row][0], body(131), atol=1e-4)
    protocol = make_protocol(corpus, "4_2")
    assert [CLASSES[c] for c in protocol.unseen] == ["bow", "clap"]
    assert set(corpus.subjects[protocol.unseen_test]) == {4}
    # A new file and a changed description are seen; what is asked again is not read again.
    (tmp_path / "gym" / "bow" / "s04_t2.txt").write_text(text_clip(7))
    assert len(load_corpus("own", str(tmp_path / "gym"))) == 49
    write_folder(tmp_path / "gym", train_subjects=[4])
    assert (load_corpus("own", str(tmp_path / "gym")).sides["xsub"] == TRAIN).sum() == 13
    write_folder(tmp_path / "gym", metres=0.002)
    corpus = load_corpus("own", str(tmp_path / "gym"))
    np.testing.assert_allclose(corpus.clips[0][0], 2 * body(210), atol=1e-3)


def test_a_corrected_description_is_read_anew(tmp_path, cache):
    """Also where the first one failed, and what it had read is still there."""
    folder = write_folder(tmp_path / "gym", classes=CLASSES[:-1], splits=None)
    with pytest.raises(BadFilesError, match="8 of 48 files"):
        load_corpus("own", str(folder))
    write_folder(folder)
    first = load_corpus("own", str(folder))
    assert len(first) == 48
    own = {"joints": [f"j{i}" for i in range(25)], "bones": [], "spine_top": "j20"}
    own |= {"parts": {part: ["j1"] for part in ("head", "hands", "torso", "legs")}}
    digests = {first.digest}
    for hip in ("j0", "j1"):
        skeleton = own | {"hip_center": hip, "shoulders": ["j8", "j4"]}
        write_folder(folder, skeleton=skeleton)
        digests.add(load_corpus("own", str(folder)).digest)
    assert len(digests) == 3


def test_an_interrupted_preparation_leaves_the_one_before(tmp_path, cache, monkeypatch):
    one, other = write_folder(tmp_path / "one"), write_folder(tmp_path / "other", metres=1)
    before = load_corpus("own", str(one))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load_corpus("own", str(other))
    assert load_corpus("own", str(one)).digest == before.digest
    np.testing.assert_allclose(before.clips[0], load_corpus("own", str(one)).clips[0])


def test_two_processes_prepare_once(tmp_path, cache):
    folder = write_folder(tmp_path / "gym")
    code = "from data_pipelines.datasets import load_corpus\n"
    code += f"print(load_corpus('own', {str(folder)!r}).digest)"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert sum("prepared own" in text for text in said) == 1


def test_train_and_stream_eval_on_a_text_folder(tmp_path):
    write_folder(tmp_path / "gym")
    arguments = [
        f"--config={ROOT}/configs/own.py",
        f"--config.data.manual_dir={tmp_path / 'gym'}",
        "--config.splits=('4_2',)",
        "--config.data.streams=('joint','bone_motion')",
        "--config.text.encoder=hashing",
    ]
    silent = run("dynapurls_jax.train", *arguments, *TINY, cwd=tmp_path)
    assert silent.returncode == 2
    assert "no descriptions of 'gym'" in silent.stderr
    assert "--config.text.descriptions=names" in silent.stderr
    arguments += ["--config.text.descriptions=names"]
    trained = run("dynapurls_jax.train", *arguments, *TINY, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "gym: 48 clips, 6 of 6 classes, 4 subjects" in trained.stdout
    evaluated = run("dynapurls_jax.stream_eval", "--orders=2", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "# gym: unseen classes" in evaluated.stdout
    assert "| 4_2 | 2 | 4 | 1 x 2 | 50.0 |" in evaluated.stdout
    (tmp_path / "gym" / "bow" / "s01_t0.txt").write_text("1 2 3")
    (tmp_path / "gym" / "clap" / "s01_t0.txt").write_text("")
    stopped = run("dynapurls_jax.train", *arguments, *TINY, cwd=tmp_path)
    assert stopped.returncode == 2
    assert "2 of 48 files cannot be used" in stopped.stderr
    assert "bow/s01_t0.txt, line 1: expected a multiple of 75 numbers" in stopped.stderr
    assert "clap/s01_t0.txt: expected lines of numbers" in stopped.stderr


def test_npz_npy_and_skeleton_files_are_read_too(tmp_path, cache):
    clip = np.stack([body(0), body(1)])
    for name, save in (("a", lambda file: np.savez(file, clip=clip, other=1)), ("b", None)):
        folder = tmp_path / name
        folder.mkdir()
        for subject in (1, 2):
            for label in (1, 2):
                if save:
                    save(folder / f"c{label}_s{subject}.npz")
                else:
                    np.save(folder / f"c{label}_s{subject}.npy", clip[0])
        suffix = "npz" if save else "npy"
        spec = {"format": "npz", "files": f"c{{class}}_s{{subject}}.{suffix}", "first_class": 1}
        spec |= {
            "name": name,
            "classes": ["up", "down"],
            "skeleton": "kinect_v2",
            "train_subjects": [1],
        }
        (folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
        corpus = load_corpus("own", str(folder))
        assert corpus.labels.tolist() == [0, 0, 1, 1]
        np.testing.assert_array_equal(corpus.clips[0], clip if save else clip[:1])
    folder = tmp_path / "c"
    folder.mkdir()
    for label in (0, 1):
        (folder / f"v{label}_c{label}.skeleton").write_bytes(as_bytes(one_person(label)))
    spec = {
        "name": "c",
        "format": "skeleton",
        "files": "v{view}_c{class}.skeleton",
        "like": "ntu60",
    }
    spec |= {"train_views": [0]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(spec))
    corpus = load_corpus("own", str(folder))
    assert corpus.class_names[1] == "eat meal"
    assert corpus.sides["xview"].tolist() == [TRAIN, TEST]
    assert "55_5" in corpus.splits


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
        ({"train_subjects": ["one"]}, "expected a list of whole numbers"),
        ({"train_subjects": None}, "expected train_subjects or train_views"),
    ],
)
def test_mistakes_in_the_description_are_named(tmp_path, cache, changes, message):
    folder = write_folder(tmp_path / "gym", **changes)
    with pytest.raises(DataError, match=message) as error:
        load_corpus("own", str(folder))
    assert "dataset.yaml" in str(error.value)


def test_no_description_and_no_yaml_are_named(tmp_path, cache):
    with pytest.raises(
        FileNotFoundError, match=r"expected a description of your dataset in .*yaml"
    ):
        load_corpus("own", str(tmp_path))
    (tmp_path / "dataset.yaml").write_text("name: x\nclasses: [a, b\nformat: text")
    with pytest.raises(DataError, match=r"dataset\.yaml, line 3: not valid YAML"):
        load_corpus("own", str(tmp_path))


def test_files_that_do_not_fit_are_listed(tmp_path, cache):
    folder = write_folder(tmp_path / "gym")
    (folder / "wave" / "readme.txt").write_text("hello")
    (folder / "dance").mkdir()
    (folder / "dance" / "s01_t0.txt").write_text(text_clip(0))
    with pytest.raises(BadFilesError, match="2 of 50 files") as error:
        load_corpus("own", str(folder))
    assert "readme.txt: expected a file name like {class}/s{subject}_t{take}.txt" in str(
        error.value
    )
    assert "expected a class name or a number from 0 to 5, got 'dance'" in str(error.value)


def test_a_skeleton_of_ones_own():
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
    own = skeleton_of_names(spec)
    assert own.parents == (0, 0, 1, 1, 1, 0)
    assert own.shoulders == (4, 3)
    with pytest.raises(ValueError, match="'tail' is none of its joints"):
        skeleton_of_names(spec | {"spine_top": "tail"})
    with pytest.raises(ValueError, match="the bones of 'hip' form a circle"):
        skeleton_of_names(spec | {"bones": [["hip", "chest"], ["chest", "hip"]]})
    with pytest.raises(ValueError, match="expected parts with joints"):
        skeleton_of_names(spec | {"parts": ["head"]})
    with pytest.raises(ValueError, match="joints for each of head"):
        skeleton_of_names(spec | {"parts": {}})


def _array_folder(tmp_path, **spec):
    spec = {"name": "imported", "like": "utd_mhad"} | spec
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(spec))
    return str(tmp_path)


def _cut_like(clips, frames):
    return [clip[:, :frames] for clip in clips]


@pytest.fixture(scope="module")
def corpus():
    """Kinect v1 clips of some classes of UTD-MHAD."""
    return tiny_corpus(classes=27, subjects=2, takes=2)


def test_pyskl_round_trip(tmp_path, cache, corpus):
    sides = {"xsub": corpus.sides["xsub"].copy()}
    sides["xsub"][5] = NEITHER
    write_pyskl(corpus.__class__(**{**corpus.__dict__, "sides": sides}), tmp_path / "x.pkl")
    record = pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert record["annotations"][0]["keypoint"].shape == corpus.clips[0].shape
    assert sorted(record["split"]) == ["xsub_train", "xsub_val"]
    back = load_corpus("own", _array_folder(tmp_path, format="pyskl", files="x.pkl"))
    assert back.clip_ids == corpus.clip_ids
    np.testing.assert_array_equal(back.labels, corpus.labels)
    np.testing.assert_array_equal(back.sides["xsub"], sides["xsub"])
    np.testing.assert_array_equal(back.hashes, corpus.hashes)


@pytest.mark.parametrize("form", ["agcn", "ctr_gcn"])
def test_gcn_arrays_round_trip(tmp_path, cache, corpus, form):
    if form == "agcn":
        write_agcn(corpus, "xsub", tmp_path / "x", frames=24)
        shape = np.load(tmp_path / "x" / "train_data_joint.npy", mmap_mode="r").shape
        assert shape == (54, 3, 24, 20, 2)
    else:
        write_ctr_gcn(corpus, "xsub", tmp_path / "x", frames=24)
        (tmp_path / "x.npz").rename(tmp_path / "x")
        assert np.load(tmp_path / "x")["x_train"].shape == (54, 24, 120)
        assert np.load(tmp_path / "x")["y_test"].shape == (54, 27)
        assert not list(tmp_path.glob("*.tmp"))
    back = load_corpus("own", _array_folder(tmp_path, format="gcn_arrays", files="x"))
    assert side_of(back).tolist().count(TRAIN) == 54
    for side in (TRAIN, TEST):
        theirs, ours = back.sides["given"] == side, corpus.sides["xsub"] == side
        assert sorted(back.hashes[theirs]) == sorted(corpus.hashes[ours])
        assert sorted(back.labels[theirs]) == sorted(corpus.labels[ours])
    if form == "agcn":
        assert back.clip_ids == corpus.clip_ids


def test_centred_arrays_lose_no_joint_at_the_origin(tmp_path, cache):
    """The pre-normalised clips of 2s-AGCN have the middle of the spine at 0 in every frame."""
    clip = body(0)
    clip -= clip[:, 1:2]
    padded = np.zeros((2, 3, 40, 25, 2), np.float32)
    padded[:, :, :30, :, 0] = clip.transpose(2, 0, 1)
    padded[1, :, :30, :, 0] *= 1.5
    for side in ("train", "val"):
        np.save(tmp_path / f"{side}_data_joint.npy", padded)
        names = [f"{side}0", f"{side}1"]
        (tmp_path / f"{side}_label.pkl").write_bytes(pickle.dumps((names, [0, 1])))
    spec = {"name": "centred", "like": "ntu60", "format": "gcn_arrays", "files": "."}
    corpus = load_corpus("own", _array_folder(tmp_path, **spec))
    assert not [note for note in corpus.notes if "interpolated" in note]
    prepared = prepare(corpus, 32, "pad").clips[0, 0, :30]
    expected = np.linalg.norm(clip[:, 1] - clip[:, 0], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(prepared[:, 1], axis=-1)[0], expected[0], rtol=1e-4)


def test_one_hot_rows_are_checked(tmp_path, cache, corpus):
    write_ctr_gcn(corpus, "xsub", tmp_path / "x.npz", frames=24)
    with np.load(tmp_path / "x.npz") as arrays:
        record = dict(arrays)
    record["y_test"][3] = 0
    np.savez(tmp_path / "x.npz", **record)
    with pytest.raises(DataError, match=r"y_test: expected one-hot rows, row 3 adds up to 0"):
        load_corpus("own", _array_folder(tmp_path, format="gcn_arrays", files="x.npz"))


def test_broken_arrays_are_errors(tmp_path, cache, corpus):
    write_agcn(corpus, "xsub", tmp_path / "x", frames=24)
    folder = _array_folder(tmp_path, format="gcn_arrays", files="x")
    labels = tmp_path / "x" / "val_label.pkl"
    names, values = pickle.loads(labels.read_bytes())
    labels.write_bytes(pickle.dumps((names[:-1], values[:-1])))
    with pytest.raises(DataError, match="as many labels as clips, got 54 clips, 53 labels"):
        load_corpus("own", folder)
    labels.write_bytes(pickle.dumps((names, [27, *values[1:]])))
    with pytest.raises(BadFilesError, match="expected a label from 0 to 26, got 27"):
        load_corpus("own", folder)
    labels.write_bytes(pickle.dumps((names, [0.5, *values[1:]])))
    with pytest.raises(DataError, match=r"val_label\.pkl: expected whole numbers"):
        load_corpus("own", folder)
    train = pickle.loads((tmp_path / "x" / "train_label.pkl").read_bytes())[0]
    labels.write_bytes(pickle.dumps(([train[0], *names[1:]], values)))
    with pytest.raises(DataError, match="there more than once, or on two sides"):
        load_corpus("own", folder)
    data = tmp_path / "x" / "val_data_joint.npy"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(DataError, match="not a readable npy"):
        load_corpus("own", folder)
    labels.unlink()
    with pytest.raises(DataError, match=r"val_label\.pkl: expected the labels of this side"):
        load_corpus("own", folder)


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, cache, protocol):
    mark = tmp_path / "hacked"
    attack = {"split": {}, "annotations": [{"frame_dir": Attack(f"touch {mark}")}]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(attack, protocol=protocol))
    with pytest.raises(DataError, match=r"x\.pkl: not a pickle .*\.system.*malicious"):
        load_corpus("own", _array_folder(tmp_path, format="pyskl", files="x.pkl"))
    assert not mark.exists()


def _reduced(function, *arguments, state=None):
    class Reduced:
        def __reduce__(self):
            return (function, arguments) if state is None else (function, arguments, state)

    return Reduced()


def test_a_pickle_cannot_make_bytes_into_pointers():
    """dtypes that claim to hold objects, or fields far outside of their bytes."""
    multiarray = np._core.multiarray
    objects = _reduced(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0))
    far = (3, "|", None, ("a",), {"a": (np.dtype("u8"), 10**12)}, 8, 1, 16)
    fields = _reduced(np.dtype, "V8", False, True, state=far)
    for dtype in (objects, fields):
        array = (1, (1,), dtype, False, b"A" * 8)
        for attack in (
            _reduced(multiarray.scalar, dtype, b"A" * 8),
            _reduced(multiarray._reconstruct, np.ndarray, (0,), b"b", state=array),
        ):
            with pytest.raises(DataError, match="which is no plain data"):
                load_pickle(pickle.dumps({"x": attack}), "x.pkl")


def test_other_ways_out_of_a_pickle_are_closed():
    for text in (
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"c_codecs\nopen\n.",
        b"cdata_pipelines.formats.pickles\npickle.loads\n.",
    ):
        with pytest.raises(DataError, match="not a pickle of plain data"):
            load_pickle(text, "x.pkl")


@given(st.binary(max_size=100))
def test_junk_pickles_are_errors_or_plain_data(junk):
    try:
        got = load_pickle(junk, "x.pkl")
    except DataError:
        return
    assert not callable(got)


def test_arrays_survive_the_restricted_loader():
    data = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(1.5), (1, "x", b"y")], "c": {1, 2}}
    data |= {"d": np.asfortranarray(np.ones((2, 3), ">f8") * 2), "e": (np.array(["ab", "c"]),)}
    for protocol in range(6):
        back = load_pickle(pickle.dumps(data, protocol=protocol), "x.pkl")
        np.testing.assert_array_equal(back["a"], data["a"])
        np.testing.assert_array_equal(back["d"], data["d"])
        np.testing.assert_array_equal(back["e"][0], data["e"][0])
        assert back["b"] == data["b"]
        assert back["c"] == data["c"]


def test_feature_folders_round_trip(tmp_path):
    corpus = tiny_corpus(classes=27, subjects=4, takes=2)
    protocol = make_protocol(corpus, "22_5")
    tokens = np.random.default_rng(0).normal(size=(len(corpus), 3, 20, 16)).astype(np.float32)
    write_features(tmp_path, tokens, corpus.labels, protocol)
    assert np.load(tmp_path / "train.npy").shape == (len(protocol.train), 16, 3, 20)
    back = read_features(tmp_path, "utd_mhad", corpus.class_names, KINECT_V1)
    again = make_protocol(back.corpus, "22_5")
    for name in ("unseen_test", "seen_test"):
        ours, theirs = getattr(protocol, name), getattr(again, name)
        np.testing.assert_array_equal(back.tokens[theirs], tokens[ours])
        np.testing.assert_array_equal(back.corpus.labels[theirs], corpus.labels[ours])
    assert len(again.train) + len(again.val) == len(protocol.train) + len(protocol.val)


def test_synse_names_and_pooled_features_are_read(tmp_path):
    rng = np.random.default_rng(0)
    for stem, label, count in (
        ("train", "train_label", 8),
        ("ztest", "z_label", 3),
        ("gtest", "g_label", 5),
    ):
        np.save(tmp_path / f"{stem}.npy", rng.normal(size=(count, 256)).astype(np.float32))
        np.save(tmp_path / f"{label}.npy", np.arange(count))
    names = tuple(map(str, range(60)))
    got = read_features(tmp_path, "ntu60", names, KINECT_V2)
    assert got.tokens.shape == (13, 1, 1, 256)
    assert got.corpus.sides["given"].tolist() == [TRAIN] * 8 + [TEST] * 5
    np.save(tmp_path / "g_label.npy", np.arange(5) + 58)
    with pytest.raises(DataError, match="labels from 0 to 59, got 58 to 62"):
        read_features(tmp_path, "ntu60", names, KINECT_V2)
    np.save(tmp_path / "g_label.npy", np.arange(4))
    with pytest.raises(DataError, match=r"g_label\.npy: expected 5 labels, got 4"):
        read_features(tmp_path, "ntu60", names, KINECT_V2)
    np.save(tmp_path / "gtest.npy", np.full((5, 256), np.nan, np.float32))
    with pytest.raises(DataError, match=r"gtest\.npy: clip 0 is not finite"):
        read_features(tmp_path, "ntu60", names, KINECT_V2)
    np.save(tmp_path / "gtest.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable npy"):
        read_features(tmp_path, "ntu60", names, KINECT_V2)
    (tmp_path / "train.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.npy"):
        read_features(tmp_path, "ntu60", names, KINECT_V2)


def test_purls_names_labels_and_sides_are_read(tmp_path):
    rng = np.random.default_rng(0)
    for side, labels in (("train", [0, 0, 1, 1]), ("val", [0, 1]), ("test", [5, 6, 5])):
        tokens = rng.normal(size=(len(labels), 256, 3, 25)).astype(np.float32)
        if side == "test":
            tokens[1] = 0  # a recording without a skeleton
        np.save(tmp_path / f"{side}_feature.npy", tokens)
        pair = np.array([[f"clip{i}" for i in range(len(labels))], list(map(str, labels))])
        np.save(tmp_path / f"{side}_labels.npy", pair)
    got = read_features(tmp_path, "ntu60", tuple(map(str, range(60))), KINECT_V2)
    assert got.corpus.labels.tolist() == [0, 0, 1, 1, 0, 1, 5, 5]
    assert got.corpus.sides["given"].tolist() == [TRAIN] * 4 + [TEST] * 4
    assert got.corpus.notes["dropped, all zero"] == 1
    np.testing.assert_array_equal(
        got.tokens[0].transpose(2, 0, 1), np.load(tmp_path / "train_feature.npy")[0]
    )
