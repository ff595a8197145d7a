"""Malicious arrays: pickled code, headers with false sizes, oversized input."""

import io
import json
import os
import pickle
import threading
import time
import zipfile

import numpy as np
import pytest

from data_pipelines import untrusted
from data_pipelines.builders.registry import public_dataset
from data_pipelines.clip_readers import open_clips
from data_pipelines.custom_spec import load_spec
from data_pipelines.errors import DataError
from data_pipelines.formats import sample_stream
from data_pipelines.formats.custom import CustomReader
from data_pipelines.formats.feature_folder import read_features
from data_pipelines.formats.gcn_arrays import GcnArraySource
from data_pipelines.formats.sample_stream import read_requests
from data_pipelines.skeletons import KINECT_V1, KINECT_V2
from tests.helpers.attacks import Attack, claim, npy, npz, zeros_in_zip
from tests.helpers.custom_folder import write_spec

LABELS = pickle.dumps((["a", "b"], [0, 1]), protocol=2)


def agcn(folder, content):
    (folder / "train_data_joint.npy").write_bytes(content)
    (folder / "train_label.pkl").write_bytes(LABELS)
    return GcnArraySource(folder, KINECT_V1, 2).items()


def ctr_gcn(folder, content, method=zipfile.ZIP_STORED):
    npz(folder / "x.npz", method, x_train=content, y_train=npy(np.eye(2)))
    return GcnArraySource(folder / "x.npz", KINECT_V1, 2).items()


def ctr_gcn_deflated(folder, content):
    return ctr_gcn(folder, content, zipfile.ZIP_DEFLATED)


def ctr_gcn_labels(folder, content):
    npz(folder / "x.npz", x_train=npy(np.ones((2, 5, 60), np.float32)), y_train=content)
    return GcnArraySource(folder / "x.npz", KINECT_V1, 2).items()


def features(folder, content):
    for side in ("train", "test"):
        (folder / f"{side}.npy").write_bytes(content)
        np.save(folder / f"{side}_label.npy", np.arange(2))
    return read_features(folder, public_dataset("utd_mhad"))


def feature_labels(folder, content):
    for side in ("train", "test"):
        np.save(folder / f"{side}.npy", np.ones((2, 4), np.float32))
        (folder / f"{side}_label.npy").write_bytes(content)
    return read_features(folder, public_dataset("utd_mhad"))


def custom_reader(folder):
    spec = {"name": "custom", "format": "npz", "files": "{class}.{any}", "skeleton": "kinect_v2"}
    write_spec(folder, **spec, classes=["wave", "kick"], train_subjects=["1"])
    return CustomReader(load_spec(folder))


def custom_npy(folder, content):
    return custom_reader(folder)("wave.npy", content)


def custom_npz(folder, content):
    return custom_reader(folder)("wave.npz", npz(io.BytesIO(), clip=content).getvalue())


def stream(folder, content):
    for request in read_requests(io.BufferedReader(io.BytesIO(content))):
        if request.kind == "bad":
            raise DataError(request.value, "stream")


READERS = (
    agcn, ctr_gcn, ctr_gcn_deflated, ctr_gcn_labels, features, feature_labels, custom_npy,
    custom_npz, stream,
)  # fmt: skip


@pytest.mark.parametrize("read", READERS)
def test_pickled_code_in_arrays_is_not_executed(read, tmp_path):
    mark = tmp_path / "hacked"
    content = npy(np.array([Attack(mark), Attack(mark)], object))
    with pytest.raises(DataError, match="expected numbers or text, got object"):
        read(tmp_path, content)
    content = npy(np.zeros(2, [("a", "f4"), ("b", "O")]))
    with pytest.raises(DataError, match="expected numbers or text, got"):
        read(tmp_path, content)
    assert not mark.exists()


@pytest.mark.parametrize(
    "shape",
    [
        (10**12,),
        *(
            pytest.param(shape, marks=pytest.mark.slow)
            for shape in ((2, 2**29), (10**12, 0), (2**32,) * 3, (10**4000,) * 2)
        ),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_a_header_that_claims_more_than_the_file_is_refused(read, shape, tmp_path, flat):
    with pytest.raises(DataError, match="it claims to be"):
        read(tmp_path, claim(shape) + bytes(1000))


@pytest.mark.parametrize("read", READERS)
def test_arrays_of_items_without_bytes_are_refused(read, tmp_path):
    with pytest.raises(DataError, match="it claims to be"):
        read(tmp_path, claim((10**12,), "<U0"))


@pytest.mark.parametrize("read", READERS)
def test_an_oversized_header_is_refused(read, tmp_path):
    content = b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff" + b" " * 10**5
    with pytest.raises(DataError, match="expected version"):
        read(tmp_path, content)


@pytest.mark.parametrize("shape", [(True, 5, 60), ()])
@pytest.mark.parametrize("read", READERS)
def test_booleans_in_a_shape_and_arrays_without_axes_are_errors(read, shape, tmp_path):
    with pytest.raises(DataError):
        read(tmp_path, claim(shape) + bytes(4 * 300))


@pytest.mark.parametrize(
    ("member", "mebibytes", "read"),
    [
        ("clip", 32, lambda file: custom_reader(file.parent)("wave.npz", file.read_bytes())),
        # Whole datasets may exceed the size limit of clips.
        pytest.param(
            "x_train",
            260,
            lambda file: GcnArraySource(file, KINECT_V2, 2).items(),
            marks=pytest.mark.slow,
        ),
        pytest.param("x_test", 260, open_clips, marks=pytest.mark.slow),
    ],
)
def test_decompression_bombs_in_npz_files_are_refused(member, mebibytes, read, tmp_path, flat):
    beginning = claim((mebibytes, 2**20), "<u1")
    others = {"y_train.npy": npy(np.eye(2))}
    file = zeros_in_zip(tmp_path / "b.npz", f"{member}.npy", mebibytes, beginning, others)
    with pytest.raises(DataError, match="may be a decompression bomb"):
        read(file)


def test_one_hot_labels_are_not_taken_for_a_bomb(tmp_path):
    """The legitimate input with the highest compression: 120 classes as float64, in NTU's order."""
    labels = np.arange(18_000) % 120
    clips = np.random.default_rng(0).integers(1, 99, (len(labels), 1, 60), np.int8)
    file = tmp_path / "x.npz"
    np.savez_compressed(file, x_train=clips, y_train=np.eye(120)[labels])
    assert len(GcnArraySource(file, KINECT_V1, 120).items()) == len(labels)


def test_a_false_size_in_a_pipe_is_reported_at_once():
    reading, writing = os.pipe()
    os.write(writing, claim((10**9, 25, 3)))
    late = threading.Timer(20, os.close, [writing])
    late.start()
    began = time.monotonic()
    with open(reading, "rb") as pipe:  # noqa: PTH123
        found = list(read_requests(pipe))
    late.cancel()
    assert time.monotonic() - began < 10
    os.close(writing)
    assert [request.kind for request in found] == ["bad"]
    assert "it claims to be [1000000000, 25, 3]" in found[0].value


def test_an_overlong_line_is_reported_and_skipped(monkeypatch):
    monkeypatch.setattr(sample_stream, "LARGEST", 50)
    lines = [{"id": "x" * 130, "reset": True}, {"reset": True}, {"id": "y" * 300, "reset": True}]
    sent = "\n".join(map(json.dumps, lines)).encode()
    found = list(read_requests(io.BufferedReader(io.BytesIO(sent))))
    assert [(r.line, r.kind) for r in found] == [(1, "bad"), (2, "reset"), (3, "bad")]
    assert "less than 50 bytes" in found[0].value


def test_large_arrays_of_an_npz_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "LARGEST", 1000)
    clips = {side: np.random.default_rng(0).normal(size=(9, 5, 60)) for side in ("train", "test")}
    arrays = {f"x_{side}": clip for side, clip in clips.items()} | {"y_train": np.eye(9)}
    np.savez(tmp_path / "x.npz", **arrays, y_test=np.asfortranarray(np.eye(9)))
    found = untrusted.read_npz(tmp_path / "x.npz", arrays)
    assert isinstance(found["x_test"], np.memmap)
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])
    assert len(GcnArraySource(tmp_path / "x.npz", KINECT_V1, 9).items()) == 18


def test_identities_that_are_no_json_are_refused():
    lines = b'{"id": NaN, "reset": true}\n{"id": {"a": [1e999]}, "reset": true}\n'
    lines += b'{"id": 1, "reset": "' + b"x" * 10**5 + b'"}\n' + b"[" * 10**5
    found = list(read_requests(io.BufferedReader(io.BytesIO(lines))))
    assert [request.kind for request in found] == ["bad"] * 4
    assert "NaN or infinity" in found[1].value
    assert [request.id for request in found] == [None, None, 1, None]
    assert max(len(request.value) for request in found) < 1000
