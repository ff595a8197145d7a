"""PKU-MMD: recordings cut by label, two persons, the owners' lists, both phases."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.corpus import NEITHER, TEST, TRAIN
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats.pku_mmd import parse_frames, parse_labels, parse_split
from data_pipelines.prepared import prepare
from data_pipelines.protocols import unseen_classes
from data_pipelines.skeletons import OPENPOSE_18
from tests.helpers.raw_files import load
from tests.helpers.skeleton_text import body


def recording(seed: int, seconds: int = 3, second_from: int | None = None) -> np.ndarray:
    """`[T, 150]`: one person in all frames, another from `second_from` on."""
    first = np.concatenate([body(seed + s) for s in range(seconds)])
    other = np.zeros_like(first)
    if second_from is not None:
        other[second_from:] = first[second_from:] + 1
    return np.stack([first, other], axis=1).reshape(len(first), 150)


def text(frames: np.ndarray) -> str:
    return "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in frames)


def write_phase(folder, names=("0002-L", "0002-M", "0003-R", "0004-L"), v2=""):
    """A small PKU-MMD: skeletons, labels, split files."""
    (folder / "Skeleton").mkdir(parents=True)
    (folder / "Label_PKUMMD").mkdir()
    for seed, name in enumerate(names):
        frames = recording(seed, second_from=40 if seed % 2 else None)
        (folder / "Skeleton" / f"{name}.txt").write_text(text(frames))
        (folder / "Label_PKUMMD" / f"{name}.txt").write_text("1,5,30,2\n14,45,80,1\n")
    for kind, split in (("subject", names[:2]), ("view", names[1:3])):
        separator = "_" if v2 else "-"
        test = [name for name in names[:3] if name not in split]
        (folder / f"cross{separator}{kind}{v2}.txt").write_text(
            f"Training videos:\n{', '.join(split)}\n\nValidataion videos: \n{', '.join(test)}\n"
        )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    write_phase(tmp_path / "pku")
    return tmp_path / "pku"


def test_recordings_become_labelled_clips(folder):
    corpus = load("pku_mmd", folder)
    assert len(corpus.class_names) == 51
    assert corpus.clip_ids[:4] == ("0002-L_00", "0002-L_01", "0002-M_00", "0002-M_01")
    assert corpus.labels.tolist() == [0, 13] * 4
    assert corpus.subjects.tolist() == [2, 2, 2, 2, 3, 3, 4, 4]
    assert corpus.views.tolist() == [1, 1, 2, 2, 3, 3, 1, 1]
    assert corpus.persons.tolist() == [1, 1, 1, 2, 1, 1, 1, 2]
    assert corpus.frames.tolist() == [25, 35] * 4
    np.testing.assert_allclose(
        corpus.clips[0][0], recording(0)[5:30, :75].reshape(25, 25, 3), atol=1e-5
    )
    np.testing.assert_allclose(
        corpus.clips[3][1], recording(1, second_from=40)[45:80, 75:].reshape(35, 25, 3), atol=1e-5
    )
    # 0004-L is in no list, and so on neither side.
    assert corpus.sides["xsub"].tolist() == [TRAIN] * 4 + [TEST] * 2 + [NEITHER] * 2
    assert corpus.sides["xview"].tolist() == [TEST] * 2 + [TRAIN] * 4 + [NEITHER] * 2


def test_the_second_phase_is_read_beside_the_first(folder):
    (folder / "Skeleton_v2").mkdir()
    (folder / "Label_v2").mkdir()
    for name in ("A01N02-L", "A01N03-M"):
        (folder / "Skeleton_v2" / f"{name}.txt").write_text(text(recording(9)))
        (folder / "Label_v2" / f"{name}.txt").write_text("3,0,20,2\n")
    with pytest.raises(FileNotFoundError, match=r"(?s)Skeleton_v2\.7z.*cross_subject_v2\.txt"):
        load("pku_mmd_2", folder)
    for kind in ("subject", "view"):
        (folder / f"cross_{kind}_v2.txt").write_text("Training videos:\nA01N02-L\nValid:\nA01N03-M")
    second = load("pku_mmd_2", folder)
    assert second.clip_ids == ("A01N02-L_00", "A01N03-M_00")
    assert second.subjects.tolist() == [2, 3]
    assert len(load("pku_mmd", folder)) == 8
    assert len(unseen_classes(second, "r1")) == 5


def test_a_single_person_in_the_second_columns_is_the_first(folder):
    frames = recording(3)
    swapped = np.concatenate([frames[:, 75:], frames[:, :75]], axis=1)
    (folder / "Skeleton" / "0004-L.txt").write_text(text(swapped))
    corpus = load("pku_mmd", folder)
    row = corpus.clip_ids.index("0004-L_00")
    assert corpus.clips[row].shape == (1, 25, 25, 3)
    np.testing.assert_allclose(
        corpus.clips[row][0], frames[5:30, :75].reshape(25, 25, 3), atol=1e-5
    )


def test_the_same_recording_in_two_places_is_an_error(folder):
    shutil.copytree(folder / "Skeleton", folder / "Skeleton_copy")
    with pytest.raises(DataError, match="8 clips occur more than once, such as 0002-L_00"):
        load("pku_mmd", folder)


def test_clips_can_be_mapped_to_18_joints(folder):
    corpus = load("pku_mmd", folder)
    prepared = prepare(corpus, 16, "published", "openpose_18")
    assert prepared.skeleton is OPENPOSE_18
    assert prepared.clips.shape == (8, 2, 16, 18, 3)
    whole = prepare(corpus, 16, "published")
    assert whole.clips.shape == (8, 2, 16, 25, 3)
    left_wrist = OPENPOSE_18.joints.index("left_wrist")
    np.testing.assert_array_equal(prepared.clips[..., left_wrist, :], whole.clips[..., 6, :])


GOOD = text(recording(0))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", None, "got an empty file"),
        (GOOD.replace(" ", ",", 150), 1, "expected 150 numbers, got 1 fields"),
        (GOOD.replace("\n", " 1.0\n", 1), 1, "expected 150 numbers, got 151 fields"),
        (GOOD + "1 2 3", 91, "expected 150 numbers, got 3 fields"),
        (GOOD + "\n" + GOOD, 91, "expected 150 numbers, got 0 fields"),
        (GOOD.replace("\n", "\n" + "x " * 150 + "\n", 1), 2, "expected numbers"),
        (
            GOOD.replace("\n", "\n" + "1 " * 149 + "inf\n", 1),
            2,
            "got inf at frame 1, joint right_thumb of person 1, axis z",
        ),
    ],
)
def test_bad_recordings_name_the_line(content, line, message):
    with pytest.raises(DataError, match=message) as error:
        parse_frames(content.encode(), "0002-L.txt")
    assert error.value.line == line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected at least one action"),
        ("1,2\n", "line 1: expected id,first frame,end frame,confidence"),
        ("1,2,9,1\n1;3;4;1", "line 2: expected id"),
        ("1,-2,9,1", "line 1: expected id"),
        ("0,2,9,1", "line 1: expected a label from 0 to 50, got -1"),
        ("52,2,9,1", "line 1: expected a label from 0 to 50, got 51"),
        ("1,9,9,1", "line 1: expected frames first < end within 90 frames, got 9 and 9"),
        ("1,90,99,1", "within 90 frames, got 90 and 99"),
    ],
)
def test_bad_labels_name_the_line(content, message):
    with pytest.raises(DataError, match=message):
        parse_labels(content.encode(), "0002-L.txt", 90)


@given(st.binary(max_size=200))
def test_junk_is_an_error(junk):
    with pytest.raises(DataError):
        parse_frames(junk, "x.txt")
    with pytest.raises(DataError):
        parse_labels(junk, "x.txt", 0)


def test_actions_that_outlast_their_recording_are_cut_and_counted(folder):
    (folder / "Label_PKUMMD" / "0003-R.txt").write_text("1,5,30,2\n\n2,80,95,1\n")
    corpus = load("pku_mmd", folder)
    assert corpus.frames[corpus.clip_ids.index("0003-R_01")] == 10
    assert corpus.notes["actions cut at the end of their recording"] == 1


def test_a_recording_without_labels_is_listed(folder):
    (folder / "Label_PKUMMD" / "0003-R.txt").unlink()
    with pytest.raises(BadFilesError, match=r"0003-R\.txt: expected a label file"):
        load("pku_mmd", folder)


def test_split_lists_are_checked():
    with pytest.raises(DataError, match="a list of validation videos"):
        parse_split("Training videos:\n0002-L", "cross-view.txt")
    with pytest.raises(DataError, match="0002-L is in both lists"):
        parse_split("Training videos: 0002-L\nValidation videos: 0002-L", "cross-view.txt")
