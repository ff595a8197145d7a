"""Clip archives: round trips, defaults, and invalid arrays."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.formats.clip_archive import (
    UP_AXES,
    ClipArchive,
    archive_of_clips,
    is_archive,
    read_archive,
    write_archive,
)
from tests.helpers.attacks import Attack, claim, npy, npz, zeros_in_zip

COUNTS = {  # clips, persons, classes, subjects, frames per second
    "aalto_gait": (103, 1, 12, 2, 100 / 3),
    "machete": (850, 1, 17, 10, 30),
    "uiprmd_vicon": (1979, 1, 10, 10, 25),
}


@given(st.data())
def test_a_written_archive_is_read_back(tmp_path_factory, data):
    draw = data.draw
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    count, persons, joints = len(lengths), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5)
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64, np.int16]))
    clips = [100 * rng.normal(size=(persons, length, joints, 3)) for length in lengths]
    archive = archive_of_clips(
        [clip.astype(dtype) for clip in clips],
        labels=rng.integers(-1, 2, count),
        class_names=("a", "b"),
        subjects=tuple(draw(st.lists(names, min_size=count, max_size=count))),
        clip_ids=tuple(draw(st.lists(names, min_size=count, max_size=count, unique=True))),
        fps=rng.uniform(1, 99, count),
        joint_names=tuple(draw(st.lists(names, min_size=joints, max_size=joints, unique=True))),
        parents=tuple(range(-1, joints - 1)),
        up=draw(st.sampled_from(["", *UP_AXES])),
    )
    file = tmp_path_factory.mktemp("archive") / "clips.npz"
    write_archive(file, archive)
    assert is_archive(file)
    back = read_archive(file)
    for name in ClipArchive.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(archive, name), name)
    for index, clip in enumerate(clips):
        np.testing.assert_array_equal(back.clip(index), clip.astype(dtype).astype(np.float32))


def test_an_archive_of_joints_alone_is_one_clip(tmp_path):
    np.savez(tmp_path / "x.npz", joints=np.ones((5, 3, 2)), other=np.array("ignored"))
    archive = read_archive(tmp_path / "x.npz")
    assert (len(archive), archive.clip_ids, archive.subjects) == (1, ("0",), ("",))
    assert archive.labels.tolist() == [-1]
    assert archive.joint_names is None
    assert archive.clip(0).shape == (1, 5, 3, 2)


def test_equal_ids_are_numbered(tmp_path):
    ids = np.array(["a", "a", "a#2", "a", "b"])
    np.savez(tmp_path / "x.npz", joints=np.ones((5, 3, 3)), lengths=np.ones(5, int), clip_id=ids)
    assert read_archive(tmp_path / "x.npz").clip_ids == ("a", "a#3", "a#2", "a#4", "b")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", COUNTS)
def test_open_corpora(shared_data, name):
    archive = read_archive(shared_data / "open" / f"{name}.npz")
    clips, persons, classes, subjects, fps = COUNTS[name]
    assert len(archive) == clips
    assert archive.joints.shape[1] == persons
    assert len(archive.class_names) == classes
    assert len(set(archive.subjects)) == subjects
    np.testing.assert_allclose(archive.fps, fps, rtol=1e-6)
    assert archive.up == "y"
    # Relative to the root; the origin is added.
    root = archive.parents.index(-1)
    np.testing.assert_allclose(archive.clip(3)[0, 0, root], archive.origin[3], atol=1e-6)


GOOD = {
    "joints": np.ones((6, 2, 3), np.float32),
    "lengths": np.array([4, 2]),
    "label": np.array([0, 1]),
    "class_names": np.array(["a", "b"]),
    "subject": np.array(["x", "y"]),
    "clip_id": np.array(["1", "2"]),
    "fps": np.array(30.0),
    "joint_names": np.array(["head", "hip"]),
    "parents": np.array([1, -1]),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joints": np.ones((6, 2))}, r"joints: expected \[sum T, V, 3\] .*got \[6, 2\]"),
        ({"joints": np.ones((6, 2, 4))}, r"joints: expected .*got \[6, 2, 4\]"),
        ({"joints": np.ones((6, 2, 3), complex)}, "joints: expected real numbers, got complex"),
        ({"joints": np.ones((0, 2, 3))}, "joints: expected"),
        ({"lengths": np.array([4, 3])}, "lengths: expected .* 6 in all .*, got 3 or more, 7 in"),
        ({"lengths": np.array([7, -1])}, "lengths: expected 1 or more"),
        ({"lengths": np.array([3.0, 3.0])}, "lengths: expected the frames of each clip, got float"),
        ({"label": np.array([0, 2])}, "label: expected indices into the 2 class_names"),
        ({"label": np.array([0])}, "label: expected 2 integers"),
        ({"class_names": np.array("a")}, "label: expected indices into the 1 class"),
        ({"subject": np.array(["x"])}, "subject: expected 2 names"),
        ({"fps": np.array([30.0, 0.0])}, "fps: expected frames per second above 0, got 0.0"),
        ({"fps": np.ones(3)}, "fps: expected one number"),
        ({"joint_names": np.array(["a", "a"])}, "joint_names: expected different names"),
        ({"parents": np.array([2, -1])}, "parents: expected -1 to 1, got -1 to 2"),
        ({"up": np.array("upwards")}, r"up: expected one of x, y, z"),
        ({"times": np.ones(5)}, r"times: expected finite numbers \[6\]"),
        ({"origin": np.full((2, 3), np.nan)}, "origin: expected finite numbers"),
    ],
)
def test_errors_name_the_invalid_array(tmp_path, changes, message):
    np.savez(tmp_path / "x.npz", **(GOOD | changes))
    with pytest.raises(DataError, match=message) as error:
        read_archive(tmp_path / "x.npz")
    assert error.value.file.endswith("x.npz")


def test_objects_false_claims_and_bombs_are_refused(tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "x.npz"
    for content in (npy(np.array([Attack(mark)])), claim((2**40, 20, 3)), claim((-1, 20, 3))):
        with pytest.raises(DataError, match="not a readable npz, array joints"):
            read_archive(npz(file, joints=content))
    assert not mark.exists()
    bomb = zeros_in_zip(file, "joints.npy", 64, claim((2**22, 4, 1)))
    with pytest.raises(DataError, match="bomb"):
        read_archive(bomb)


def test_other_files_are_not_archives(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no zip")
    assert not is_archive(tmp_path / "x.npz")
    with pytest.raises(DataError, match="expected an npz with an array named joints"):
        read_archive(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", clip=np.ones(3))
    assert not is_archive(tmp_path / "y.npz")
    with pytest.raises(DataError, match=r"an array named joints, got \['clip'\]"):
        read_archive(tmp_path / "y.npz")


@given(st.integers(0, 10**6), st.integers(0, 300), st.binary(max_size=9))
def test_damaged_archives_are_errors_or_finite_lengths(tmp_path_factory, at, cut, piece):
    file = tmp_path_factory.mktemp("damaged") / "x.npz"
    np.savez(file, **GOOD)
    content = file.read_bytes()
    at %= len(content)
    file.write_bytes(content[:at] + piece + content[at + cut :])
    try:
        archive = read_archive(file)
    except DataError:
        return
    assert sum(archive.clip(index).shape[1] for index in range(len(archive))) == 6


def test_members_with_other_methods_are_refused(tmp_path):
    file = npz(tmp_path / "x.npz", zipfile.ZIP_LZMA, joints=npy(np.ones((2, 2, 3))))
    with pytest.raises(DataError, match="packed by method"):
        read_archive(file)
