"""Formats of other projects: PYSKL pickles, 2s-AGCN and CTR-GCN arrays, feature folders."""

import pickle

import numpy as np
import pytest

from data_pipelines.builders.registry import public_dataset
from data_pipelines.corpus import NEITHER, PREDEFINED, TEST, TRAIN
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats.feature_folder import read_features, write_features
from data_pipelines.formats.gcn_arrays import write_agcn, write_ctr_gcn
from data_pipelines.formats.pyskl import write_pyskl
from data_pipelines.prepared import prepare
from data_pipelines.protocols import make_protocol, side_of
from tests.helpers.corpora import tiny_corpus
from tests.helpers.custom_folder import write_spec
from tests.helpers.raw_files import load
from tests.helpers.skeleton_text import body


def _array_folder(tmp_path, **spec):
    return write_spec(tmp_path, **({"name": "imported", "like": "utd_mhad"} | spec))


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
    back = load("custom", _array_folder(tmp_path, format="pyskl", files="x.pkl"))
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
        write_ctr_gcn(corpus, "xsub", tmp_path / "x.npz", frames=24)
        (tmp_path / "x.npz").rename(tmp_path / "x")
        assert np.load(tmp_path / "x")["x_train"].shape == (54, 24, 120)
        assert np.load(tmp_path / "x")["y_test"].shape == (54, 27)
        assert not list(tmp_path.glob("*.tmp"))
    back = load("custom", _array_folder(tmp_path, format="gcn_arrays", files="x"))
    assert side_of(back).tolist().count(TRAIN) == 54
    for side in (TRAIN, TEST):
        theirs, ours = back.sides[PREDEFINED] == side, corpus.sides["xsub"] == side
        assert sorted(back.hashes[theirs]) == sorted(corpus.hashes[ours])
        assert sorted(back.labels[theirs]) == sorted(corpus.labels[ours])
    if form == "agcn":
        assert back.clip_ids == corpus.clip_ids


def test_joints_at_the_origin_of_centred_arrays_are_kept(tmp_path, cache):
    """In pre-normalised clips of 2s-AGCN the middle of the spine is at 0 in every frame."""
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
    corpus = load("custom", _array_folder(tmp_path, **spec))
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
        load("custom", _array_folder(tmp_path, format="gcn_arrays", files="x.npz"))


def test_broken_arrays_are_errors(tmp_path, cache, corpus):
    write_agcn(corpus, "xsub", tmp_path / "x", frames=24)
    folder = _array_folder(tmp_path, format="gcn_arrays", files="x")
    labels = tmp_path / "x" / "val_label.pkl"
    names, values = pickle.loads(labels.read_bytes())
    labels.write_bytes(pickle.dumps((names[:-1], values[:-1])))
    with pytest.raises(DataError, match="as many labels as clips, got 54 clips, 53 labels"):
        load("custom", folder)
    labels.write_bytes(pickle.dumps((names, [27, *values[1:]])))
    with pytest.raises(BadFilesError, match="expected a label from 0 to 26, got 27"):
        load("custom", folder)
    labels.write_bytes(pickle.dumps((names, [0.5, *values[1:]])))
    with pytest.raises(DataError, match=r"val_label\.pkl: expected whole numbers"):
        load("custom", folder)
    train = pickle.loads((tmp_path / "x" / "train_label.pkl").read_bytes())[0]
    labels.write_bytes(pickle.dumps(([train[0], *names[1:]], values)))
    with pytest.raises(DataError, match="occurs more than once, or on two sides"):
        load("custom", folder)
    data = tmp_path / "x" / "val_data_joint.npy"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(DataError, match="not a readable npy"):
        load("custom", folder)
    labels.unlink()
    with pytest.raises(DataError, match=r"val_label\.pkl: expected the labels of this side"):
        load("custom", folder)


def test_feature_folders_round_trip(tmp_path):
    corpus = tiny_corpus(classes=27, subjects=4, takes=2)
    protocol = make_protocol(corpus, "22_5")
    tokens = np.random.default_rng(0).normal(size=(len(corpus), 3, 20, 16)).astype(np.float32)
    write_features(tmp_path, tokens, corpus.labels, protocol)
    assert np.load(tmp_path / "train.npy").shape == (len(protocol.train), 16, 3, 20)
    back = read_features(tmp_path, public_dataset("utd_mhad"))
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
    got = read_features(tmp_path, public_dataset("ntu60"))
    assert got.tokens.shape == (13, 1, 1, 256)
    assert got.corpus.sides[PREDEFINED].tolist() == [TRAIN] * 8 + [TEST] * 5
    np.save(tmp_path / "g_label.npy", np.arange(5) + 58)
    with pytest.raises(DataError, match="labels from 0 to 59, got 58 to 62"):
        read_features(tmp_path, public_dataset("ntu60"))
    np.save(tmp_path / "g_label.npy", np.arange(4))
    with pytest.raises(DataError, match=r"g_label\.npy: expected 5 labels, got 4"):
        read_features(tmp_path, public_dataset("ntu60"))
    np.save(tmp_path / "gtest.npy", np.full((5, 256), np.nan, np.float32))
    with pytest.raises(DataError, match=r"gtest\.npy: clip 0 is not finite"):
        read_features(tmp_path, public_dataset("ntu60"))
    np.save(tmp_path / "gtest.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable npy"):
        read_features(tmp_path, public_dataset("ntu60"))
    (tmp_path / "train.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.npy"):
        read_features(tmp_path, public_dataset("ntu60"))


def test_purls_names_labels_and_sides_are_read(tmp_path):
    rng = np.random.default_rng(0)
    for side, labels in (("train", [0, 0, 1, 1]), ("val", [0, 1]), ("test", [5, 6, 5])):
        tokens = rng.normal(size=(len(labels), 256, 3, 25)).astype(np.float32)
        if side == "test":
            tokens[1] = 0  # a recording without a skeleton
        np.save(tmp_path / f"{side}_feature.npy", tokens)
        pair = np.array([[f"clip{i}" for i in range(len(labels))], list(map(str, labels))])
        np.save(tmp_path / f"{side}_labels.npy", pair)
    got = read_features(tmp_path, public_dataset("ntu60"))
    assert got.corpus.labels.tolist() == [0, 0, 1, 1, 0, 1, 5, 5]
    assert got.corpus.sides[PREDEFINED].tolist() == [TRAIN] * 4 + [TEST] * 4
    assert got.corpus.notes["dropped, all zero"] == 1
    np.testing.assert_array_equal(
        got.tokens[0].transpose(2, 0, 1), np.load(tmp_path / "train_feature.npy")[0]
    )
