"""Readers of the Kinect v1 datasets, archives, prepared files, protocols and batches."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.batches import epoch_batches, padded_batches
from data_pipelines.builders import kinder_gator, nw_ucla
from data_pipelines.builders.kinder_gator import read_kinder_gator
from data_pipelines.builders.nw_ucla import read_nw_ucla
from data_pipelines.builders.utd_mhad import read_utd_mhad
from data_pipelines.errors import DataError
from data_pipelines.protocols import make_protocol, unseen_classes
from data_pipelines.skeletons import KINECT_V1
from data_pipelines.sources import Archive
from tests.helpers.corpora import tiny_corpus
from tests.helpers.raw_files import gator_lines, load, ucla_file, utd_file

UTD_NAME = "a3_s2_t1_skeleton.mat"
UCLA_NAME = "a08_s01_e00_v02.json"
GATOR_NAME = "Children/POSE-p103_07-Climb-and-imaginary-ladder-1469.csv"


def test_utd_mhad_is_reordered_to_kinect_v1():
    joints = np.random.default_rng(1).normal(size=(20, 3, 9))
    raw = read_utd_mhad(f"Skeleton/{UTD_NAME}", utd_file(joints))
    assert (raw.clip_id, raw.label, raw.subject) == ("a3_s2_t1", 2, 2)
    assert raw.joints.shape == (1, 9, 20, 3)
    order = KINECT_V1.joints.index
    for source, name in ((0, "head"), (3, "hip_center"), (4, "left_shoulder"), (19, "right_foot")):
        np.testing.assert_allclose(
            raw.joints[0, :, order(name)], joints[source].T.astype(np.float32)
        )


def test_nw_ucla_codes_are_labels():
    raw = read_nw_ucla(UCLA_NAME, ucla_file())
    assert (raw.label, raw.subject, raw.view) == (6, 1, 2)
    assert nw_ucla.ACTIONS[raw.label] == "put on clothes"


def test_kinder_gator_classes_are_read_from_file_names():
    raw = read_kinder_gator(GATOR_NAME, "\n".join(gator_lines()).encode())
    assert kinder_gator.ACTIONS[raw.label] == "climb an imaginary ladder"
    assert (raw.subject, raw.view, raw.joints.shape) == (103, 1, (1, 4, 20, 3))
    adult = read_kinder_gator(
        "Adults/POSE-p565_34-Throw-a-ball--14.csv", "\n".join(gator_lines()).encode()
    )
    assert (kinder_gator.ACTIONS[adult.label], adult.view) == ("throw a ball", 0)


def _with_nan():
    joints = np.ones((20, 3, 9))
    joints[7, 1, 4] = np.nan
    return joints


def _gator(change) -> bytes:
    lines = gator_lines()
    change(lines)
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("read", "name", "content", "message"),
    [
        (read_utd_mhad, "a1_s1.mat", b"", "file name like a1_s1_t1"),
        (read_utd_mhad, "a28_s1_t1_skeleton.mat", b"", "action from 1 to 27, got 28"),
        (read_utd_mhad, UTD_NAME, utd_file()[:200], "not a readable .mat"),
        (read_utd_mhad, UTD_NAME, b"", "not a readable .mat"),
        (read_utd_mhad, UTD_NAME, b"\x00junk" * 99, "not a readable .mat"),
        (read_utd_mhad, UTD_NAME, utd_file(key="other"), "expected a variable d_skel"),
        (read_utd_mhad, UTD_NAME, utd_file(np.ones((19, 3, 9))), r"got \[19, 3, 9\]"),
        (read_utd_mhad, UTD_NAME, utd_file(_with_nan()), "got nan at frame 4, joint left_hand"),
        (read_nw_ucla, UCLA_NAME, b"{\n'", "line 2: not a readable JSON file"),
        (read_nw_ucla, UCLA_NAME, b"[1]", "expected keys skeletons and label"),
        (read_nw_ucla, UCLA_NAME, b"{}", "KeyError: 'skeletons'"),
        (read_nw_ucla, UCLA_NAME, ucla_file(label=3), "code 8 and label 3"),
        (read_nw_ucla, UCLA_NAME, ucla_file(skeletons=[[1]]), r"T, 20, 3\] with"),
        (read_nw_ucla, UCLA_NAME, ucla_file(skeletons="x"), "of numbers"),
        (read_nw_ucla, UCLA_NAME, ucla_file(frames=0), "T >= 1"),
        (read_kinder_gator, "Adults/x.csv", b"", "file name like POSE"),
        (read_kinder_gator, "POSE-p1_01-Fly-a-kite-1.csv", b"", "'Fly a kite' is not one of"),
        (read_kinder_gator, GATOR_NAME, b"", "line 1: expected columns Timestamp"),
        (read_kinder_gator, GATOR_NAME, b"\xff\xfe", "expected ASCII"),
        (
            read_kinder_gator,
            GATOR_NAME,
            _gator(lambda lines: lines.__setitem__(2, lines[2].replace(".", "x"))),
            "line 3: expected numbers",
        ),
        (
            read_kinder_gator,
            GATOR_NAME,
            _gator(lambda lines: lines.__setitem__(3, lines[3][:200])),
            "line 4: expected",
        ),
        (
            read_kinder_gator,
            GATOR_NAME,
            _gator(lambda lines: lines.__setitem__(4, lines[4].replace(lines[4][4:10], "nan", 1))),
            "line 5: expected",
        ),
        (
            read_kinder_gator,
            GATOR_NAME,
            _gator(lambda lines: lines.__delitem__(slice(1, 9))),
            "T >= 1",
        ),
    ],
)
def test_errors_of_broken_files_have_file_and_position(read, name, content, message):
    with pytest.raises(DataError, match=message) as error:
        read(name, content)
    assert name in str(error.value)


@given(st.binary(max_size=300))
def test_junk_never_becomes_a_clip(junk):
    for read, name in (
        (read_utd_mhad, UTD_NAME),
        (read_nw_ucla, UCLA_NAME),
        (read_kinder_gator, GATOR_NAME),
    ):
        with pytest.raises(DataError):
            read(name, junk)


def test_archives_and_folders_read_alike(tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x/b.mat", b"B")
        file.writestr("x/a.mat", b"A")
        file.writestr("x/readme.txt", b"")
        file.extractall(tmp_path / "out")
    for path in (archive, tmp_path / "out"):
        source = Archive((path,), ".mat")
        assert [source.content(name) for name in source.files()] == [b"A", b"B"]
        before = source.stamp()
        assert before == Archive((path,), ".mat").stamp()
    (tmp_path / "out" / "x" / "a.mat").write_bytes(b"changed")
    assert before != source.stamp()
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(DataError, match="zip"):
        Archive((archive,), ".mat").files()


def _ucla_folder(path, **files):
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / f"{name}.json").write_bytes(content)


def test_a_folder_of_files_becomes_a_corpus_through_tfds(tmp_path):
    codes = nw_ucla.CODES
    _ucla_folder(
        tmp_path / "all_sqe",
        **{
            f"a{code:02d}_s01_e{take:02d}_v0{view}": ucla_file(4 + view, i + 1, take=take)
            for i, code in enumerate(codes[:3])
            for take, view in ((0, 1), (1, 3))
        },
    )
    corpus = load("nw_ucla", tmp_path)
    assert corpus.digest == load("nw_ucla", tmp_path).digest
    assert set(corpus.views) == {1, 3}
    # Clips of equal length have equal content here, for all classes: one of each is kept.
    assert len(corpus) == 2
    assert corpus.notes["dropped, exact duplicate of another clip"] == 4


def test_prepared_files_are_made_again_for_another_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DYNAPURLS_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    for number, frames in enumerate((5, 6)):
        _ucla_folder(tmp_path / f"d{number}" / "all_sqe", a01_s01_e00_v01=ucla_file(frames, 1))
        corpus = load("nw_ucla", tmp_path / f"d{number}")
        assert corpus.clips[0].shape[1] == frames
    # Without an archive in the default places, prepared files are used. An explicit one must exist.
    assert load("nw_ucla").digest == corpus.digest
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"expected all_sqe\.zip or its folder in"):
            load("nw_ucla", tmp_path / wrong)
    assert not (tmp_path / "nowhere").exists()


def test_a_bad_file_in_a_folder_stops_the_build_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    _ucla_folder(tmp_path / "all_sqe", a01_s01_e00_v01=ucla_file(5, 1), a02_s01_e00_v01=b"{")
    with pytest.raises(DataError, match=r"a02_s01_e00_v01\.json, line 1: not a readable JSON file"):
        load("nw_ucla", tmp_path)
    assert not list((tmp_path / "cache").rglob("dataset_info.json"))


@pytest.mark.parametrize("name", ["nw_ucla", "kinder_gator", "ntu60"])
def test_missing_data_says_what_to_download_and_where_to_put_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path))
    monkeypatch.setenv("DYNAPURLS_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"(?s)\.zip.*http|http.*\.zip") as error:
        load(name)
    assert str(tmp_path) in str(error.value)


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'utd_mhad'"):
        load("utd_mad")


def test_protocol_sides_do_not_overlap_and_pseudo_splits_exclude_unseen_classes():
    corpus = tiny_corpus(classes=27, subjects=4, takes=3)
    real = make_protocol(corpus, "22_5")
    assert real.unseen.tolist() == [4, 14, 17, 23, 24]
    for protocol in (real, make_protocol(corpus, "pseudo-22_5-0")):
        sides = [protocol.train, protocol.val, protocol.seen_test, protocol.unseen_test]
        assert sum(map(len, sides)) == len(np.unique(np.concatenate(sides)))
        assert np.isin(corpus.labels[protocol.unseen_test], protocol.unseen).all()
        for side in sides[:3]:
            assert np.isin(corpus.labels[side], protocol.seen).all()
        assert (corpus.subjects[np.concatenate(sides[:2])] % 2 == 1).all()
    pseudo = make_protocol(corpus, "pseudo-22_5-0")
    assert len(pseudo.unseen) == 5
    everything = np.concatenate([pseudo.seen, pseudo.unseen])
    assert not np.intersect1d(everything, real.unseen).size
    assert (corpus.subjects[pseudo.unseen_test] % 2 == 1).all()  # training subjects only


def test_random_splits_are_seeded():
    corpus = tiny_corpus(classes=58, subjects=2, takes=1)
    a, b, c = (unseen_classes(corpus, f"random-46_12-{k}") for k in (0, 0, 1))
    assert a.tolist() == b.tolist() != c.tolist()
    assert len(a) == 12


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("22_6", "did you mean '22_5'"),
        ("random-20_5-0", "seen \\+ unseen = 27"),
        ("pseudo-x-0", "unknown split"),
        ("", "Known: 22_5"),
        ("pseudo-pseudo-22_5-0-0", "expected a pseudo split of a split that is not pseudo"),
    ],
)
def test_unknown_splits_are_errors(split, message):
    with pytest.raises(ValueError, match=message):
        unseen_classes(tiny_corpus(classes=27, subjects=2, takes=1), split)


def test_a_single_unseen_class_is_an_error():
    with pytest.raises(ValueError, match="'random-7_1-0': expected 2 unseen classes or more"):
        make_protocol(tiny_corpus(), "random-7_1-0")


def test_epochs_differ_and_repeat_by_seed():
    clips = np.arange(10)[:, None]

    def orders(seed, epoch):
        batches = list(epoch_batches(clips, np.arange(10)[::-1], 4, seed, epoch=epoch))
        for batch in batches:
            assert (batch.local[:, 0] == batch.indices).all()
        left = {"first": 1, "local": slice(2, 4)}
        rest = list(epoch_batches(clips, np.arange(10)[::-1], 4, seed, epoch=epoch, **left))
        for batch, again in zip(batches[1:], rest, strict=True):
            np.testing.assert_array_equal(again.indices, batch.indices)
            np.testing.assert_array_equal(again.local, batch.local[2:])
        return [batch.indices.tolist() for batch in batches]

    assert orders(0, 1) == orders(0, 1)
    assert orders(0, 1) != orders(0, 2)
    assert orders(0, 1) != orders(1, 1)
    assert all(len(batch) == 4 for batch in orders(0, 0))
    flat = [label for batch in orders(3, 0) for label in batch]
    assert len(set(flat)) == 8


def test_padded_batches_contain_every_entry_once():
    chosen = np.array([6, 1, 2, 3, 4, 0, 5])
    read = [batch.local[:real] for batch, real in padded_batches(np.arange(7) * 10, chosen, 3)]
    assert [len(batch.local) for batch, _ in padded_batches(np.arange(7), chosen, 3)] == [3, 3, 3]
    np.testing.assert_array_equal(np.concatenate(read), chosen * 10)
