"""Clip files of all formats: each gives the same person, or a message with the reason."""

import pickle

import numpy as np
import pytest

from data_pipelines.clip_files import Clip, class_names, load_clips
from data_pipelines.conventions import Conventions, Declared, to_project
from data_pipelines.formats.clip_archive import archive_of_clips, write_archive
from data_pipelines.layouts import COMMON
from data_pipelines.skeletons import KINECT_V2
from tests.helpers.clips import person
from tests.helpers.skeleton_text import as_bytes, skeleton_lines

PERSON = person(16)
EXPECTED = to_project(PERSON[None], Conventions("z", False, 1.0, ()))
Y_UP = PERSON[..., [0, 2, 1]] * [1, 1, -1]  # y up, as usual for sensors and archives


def archive(file, clips=(Y_UP[None],), **fields):
    write_archive(file, archive_of_clips(clips, **({"joint_names": COMMON.joints} | fields)))
    return file


def one(path, *arguments, **keywords) -> Clip:
    """The only clip of a path."""
    (clip,) = load_clips(path, *arguments, **keywords)
    assert isinstance(clip, Clip), clip
    return clip


def test_an_archive(tmp_path):
    fields = {"labels": np.array([1, -1]), "class_names": ("a", "wave"), "up": "y"}
    fields |= {"clip_ids": ("x", "y"), "fps": np.array([25.0, 50.0])}
    file = archive(tmp_path / "gym.npz", [Y_UP[None], 2 + Y_UP[None, ::2]], **fields)
    first, second = load_clips(file)
    assert (first.id, first.label, first.fps, first.statements) == ("gym/x", "wave", 25, ())
    assert (second.id, second.label, second.fps) == ("gym/y", None, 50)
    np.testing.assert_allclose(first.joints, EXPECTED, atol=1e-5)
    np.testing.assert_allclose(second.joints, EXPECTED[:, ::2], atol=1e-5)


def test_arrays_and_text_need_a_skeleton(tmp_path):
    np.save(tmp_path / "a.npy", Y_UP)
    np.savez(tmp_path / "b.npz", clip=Y_UP[None] * 1000)
    lines = "\n".join(",".join(map(str, frame.ravel())) for frame in Y_UP)
    (tmp_path / "c.csv").write_text(lines)
    for clip in load_clips(tmp_path, "kinect_v1"):
        assert isinstance(clip, Clip), clip
        np.testing.assert_allclose(clip.joints, EXPECTED, atol=1e-4)
        assert clip.fps == 30
        assert any("30 frames per second are assumed" in text for text in clip.statements)
    messages = list(load_clips(tmp_path))
    assert len(messages) == 3
    assert "a.npy: expected the skeleton of 20 joints without names, such as" in messages[0]
    assert "c.csv: expected a skeleton for a text file" in messages[2]
    mapping = {joint: index for index, joint in enumerate(COMMON.joints)}
    clip = one(tmp_path / "a.npy", mapping, Declared(fps=12.5))
    assert (clip.id, clip.fps, clip.statements) == ("a", 12.5, ())


def test_pyskl_pickles_of_two_and_three_dimensions(tmp_path):
    keypoint = Y_UP[None].astype(np.float32)
    annotations = [
        {"frame_dir": "a", "label": 3, "keypoint": keypoint},
        {"frame_dir": "b", "label": 0, "keypoint": np.repeat(keypoint, 2, 0)},
        {"frame_dir": "c", "label": 0},
        {"frame_dir": "d", "label": 0, "keypoint": keypoint[0]},
    ]
    file = tmp_path / "x.pkl"
    file.write_bytes(pickle.dumps({"split": {}, "annotations": annotations}))
    first, second, *messages = load_clips(tmp_path, "kinect_v1", Declared(up="y"))
    assert (first.id, first.label, len(second.joints)) == ("x/a", None, 2)
    np.testing.assert_allclose(first.joints, EXPECTED, atol=1e-4)
    assert messages[0].startswith(f"{file}, annotation 2: expected frame_dir and keypoint")
    assert messages[1].startswith(f"{file}, annotation 3: expected [T, V, 3] or [M, T, V, 3]")
    image = [1, -1] * keypoint[..., :2] * 200  # y down, pixels
    record = {"annotations": [{"frame_dir": "flat", "keypoint": image.astype(np.float16)}]}
    file.write_bytes(pickle.dumps(record))
    flat = one(file, "kinect_v1")
    assert np.ptp(flat.joints[..., 1]) == 0
    np.testing.assert_allclose(flat.joints[0, :, 3, 2].mean(), 1.7, atol=0.3)
    file.write_bytes(pickle.dumps(["a", "b"]))
    (message,) = load_clips(file, "kinect_v1")
    assert message == f"{file}: expected a dict with a list of annotations"


@pytest.mark.parametrize("form", ["agcn", "ctr_gcn", "compressed"])
def test_padded_arrays_of_skeleton_gcns(tmp_path, form):
    padded = np.zeros((2, 3, 30, 20, 2), np.float32)
    padded[:, :, :16, :, 0] = Y_UP.transpose(2, 0, 1)
    padded[1, :, :16, :, 1] = Y_UP.transpose(2, 0, 1) + np.array([1, 0, 0])[:, None, None]
    if form == "agcn":
        np.save(tmp_path / "train_data_joint.npy", padded)
        (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))
        names = ["train_data_joint/000000", "train_data_joint/000001"]
    else:
        rows = padded.transpose(0, 2, 4, 3, 1).reshape(2, 30, -1)
        save = np.savez if form == "ctr_gcn" else np.savez_compressed
        save(tmp_path / "x.npz", x_train=rows[:1], y_train=np.eye(2)[:1], x_test=rows[1:])
        names = ["x/train000000", "x/test000000"]
    first, second = load_clips(tmp_path, "kinect_v1", Declared(up="y"))
    assert [first.id, second.id] == names
    assert first.label is None
    np.testing.assert_allclose(first.joints[0], EXPECTED[0], atol=1e-4)
    assert not first.joints[1:].any()
    apart = np.broadcast_to([1, 0, 0], (16, 20, 3))
    np.testing.assert_allclose(second.joints[1] - second.joints[0], apart, atol=1e-4)
    assert class_names(tmp_path) == ()


def test_ntu_skeleton_files(tmp_path):
    joints = np.zeros((16, 25, 3))
    for index, name in enumerate(KINECT_V2.joints):
        other = {"spine_base": "hip_center", "spine_mid": "spine"}.get(name, name)
        other = {"spine_shoulder": "shoulder_center"}.get(other, other)
        other = other if other in COMMON.joints else "head"
        joints[:, index] = Y_UP[:, COMMON.joints.index(other)] + np.array([0, 0, 3])
    lines = skeleton_lines([[(7, frame)] for frame in joints])
    (tmp_path / "S001.skeleton").write_bytes(as_bytes(lines))
    clip = one(tmp_path / "S001.skeleton")
    assert (clip.id, clip.fps, clip.statements) == ("S001", 30, ())
    np.testing.assert_allclose(clip.joints, EXPECTED, atol=1e-4)


def test_a_folder_gives_usable_clips_and_the_reasons_of_the_others(tmp_path):
    (tmp_path / "deep").mkdir()
    still = np.repeat(Y_UP[None, :1], 5, axis=1)
    archive(tmp_path / "deep" / "some.npz", [Y_UP[None], still, Y_UP[None, :1]])
    archive(tmp_path / "tall.npz", [20 * Y_UP[None]])
    archive(tmp_path / "names.npz", joint_names=tuple(map(str, range(20))))
    (tmp_path / "torn.npz").write_bytes(b"PK torn")
    (tmp_path / "torn.bvh").write_text("HIERARCHY\nROOT")
    (tmp_path / "readme.md").write_text("ignored")
    found = list(load_clips(tmp_path))
    good = [clip for clip in found if isinstance(clip, Clip)]
    assert [clip.id for clip in good] == ["deep/some/0"]
    bad = sorted(text.removeprefix(f"{tmp_path}/") for text in found if isinstance(text, str))
    assert len(bad) == 6
    assert bad[0] == "deep/some.npz, clip 1: no motion: all frames are the same"
    assert bad[1] == "deep/some.npz, clip 2: expected 2 or more frames, got 1"
    assert bad[2].startswith("names.npz, clip 0: no joint of the file gives hip_center, spine")
    assert bad[3].startswith("tall.npz, clip 0: expected a body of 0.5 to 2.5 m")
    assert bad[4].startswith("torn.bvh, line 2: expected a unique joint name")
    assert bad[5].startswith("torn.npz: not a readable zip")


def test_nothing_to_read_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "missing.npz"):
        with pytest.raises(FileNotFoundError, match="expected a file of clips, or a folder"):
            list(load_clips(path))
    (tmp_path / "x.mp4").write_bytes(b"film")
    (message,) = load_clips(tmp_path / "x.mp4")
    assert "expected a file with .bvh, .npy" in message
    with pytest.raises(ValueError, match="unknown skeleton 'kinect_v0'; did you mean"):
        list(load_clips(tmp_path, "kinect_v0"))


def test_the_clips_of_a_file_share_their_conventions(tmp_path):
    """Also for a clip of a lying person, which alone would not show the up axis."""
    lying = (PERSON @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])) + np.array([0, 0, 1])
    mirrored = np.array([-1, 1, 1])
    clips = [PERSON[None] * mirrored] * 4 + [lying[None] * mirrored]
    first, *_, last = load_clips(archive(tmp_path / "x.npz", clips))
    assert any("up is z" in text for text in first.statements)
    assert any("mirrored" in text for text in last.statements)
    np.testing.assert_allclose(first.joints, EXPECTED, atol=1e-5)
    assert np.ptp(last.joints[..., 2]) < 1.2
    # Declared conventions override the estimate.
    stated = list(load_clips(tmp_path / "x.npz", declared=Declared(mirrored=False)))
    assert not any("mirrored" in text for text in stated[0].statements)


def test_clips_that_are_centred_in_every_frame(tmp_path):
    np.save(tmp_path / "x.npy", Y_UP - Y_UP[:, :1])
    clip = one(tmp_path / "x.npy", "kinect_v1", Declared(fps=30))
    assert not clip.statements
    centred = EXPECTED - EXPECTED[:, :, :1]
    np.testing.assert_allclose(clip.joints - clip.joints[:, :, :1], centred, atol=1e-5)


def test_frame_times_replace_the_frame_rate(tmp_path):
    clip = one(archive(tmp_path / "x.npz", times=np.arange(16) / 20))
    assert clip.fps == pytest.approx(20)
    times = np.arange(16) / 20 + 0.02 * (np.arange(16) % 2)
    clip = one(archive(tmp_path / "x.npz", times=times))
    assert "frame times are not uniform: resampled at a constant rate" in clip.statements


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("axes", [2, 3])
def test_2d_clips_have_no_depth(tmp_path, relative, axes):
    flat = np.stack([320 + 200 * Y_UP[..., 0], 240 - 200 * Y_UP[..., 1], 0 * Y_UP[..., 2]], axis=-1)
    keep = [index for index, name in enumerate(COMMON.joints) if not name.endswith("hand")]
    flat = (flat - flat[0, 0] * relative)[:, keep, :axes]
    names = tuple(COMMON.joints[index] for index in keep)
    clip = one(archive(tmp_path / "x.npz", [flat[None]], joint_names=names))
    assert not any("interpolated" in text for text in clip.statements)
    assert any("2D input" in text for text in clip.statements)
    assert not clip.joints[..., 1].any()
    joint = COMMON.joints.index
    assert np.all(clip.joints[..., joint("head"), 2] > clip.joints[..., joint("left_hip"), 2])


def test_two_people(tmp_path):
    late = Y_UP[None] + np.array([1, 0, 0])
    late[:, :5] = 0
    clip = one(
        archive(tmp_path / "x.npz", [np.concatenate([Y_UP[None] + 1, late + 1 * (late != 0)])])
    )
    assert clip.joints.shape == (2, 16, 20, 3)
    assert not clip.joints[1, :5].any()


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "frames", "fps", "statement"),
    [
        ("dab", 339, 30, "the unit is unknown"),
        ("zombie", 779, 30, "up is z"),
        ("jumping_jacks_cmu", 125, 30, "the unit is unknown"),
        ("wave-left-hand", 19, 30, "lengths are in centimetres"),
        ("dash", 20, 30, "lengths are in centimetres"),
        ("run_aalto", 185, 100, "lengths are in centimetres"),
    ],
)
def test_real_bvh_files(shared_data, name, frames, fps, statement):
    clip = one(shared_data / "bvh" / f"{name}.bvh")
    assert clip.joints.shape == (1, frames, 20, 3)
    assert clip.fps == pytest.approx(fps, rel=1e-3)
    assert any(statement in text for text in clip.statements)
    check_person(clip)


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("deepmimic", 100), ("cdta", 1803), ("hdm05_part", 287), ("msrc12", 2948)]
)
def test_open_corpora(shared_data, name, count):
    clips = list(load_clips(shared_data / "open" / f"{name}.npz"))
    assert len(clips) == count
    assert not [clip for clip in clips if isinstance(clip, str)]
    for clip in clips[:: max(1, count // 20)]:
        assert not any("mirrored" in text or "up" in text.split() for text in clip.statements)
        if name == "cdta":  # in other corpora some persons bow or lie in the first frame
            check_person(clip)


def check_person(clip: Clip) -> None:
    """Asserts that the person first stands and faces forward, with the right side at +x."""
    first = dict(zip(COMMON.joints, clip.joints[0, 0], strict=True))
    assert first["head"][2] > first["hip_center"][2] + 0.3
    assert first["hip_center"][2] > first["left_ankle"][2] + 0.3
    assert first["right_shoulder"][0] > first["left_shoulder"][0] + 0.1
    assert 0.5 < clip.joints[0, 0, :, 2].max() < 2.5
    np.testing.assert_allclose(first["hip_center"][:2], 0, atol=1e-6)
