"""Motion sketches: parsing, errors, and the animated motion."""

import json
import re
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.animation import SKELETON, animate, imagined_clip
from data_pipelines.errors import DataError
from data_pipelines.skeletons import KINECT_V1, KINECT_V2, OPENPOSE_18
from data_pipelines.sketches import HIPS, PARTS, TORSO, parse_sketch
from data_pipelines.temporal_sampling import TEMPORAL_SAMPLING

FRAMES = 24
J = {name: index for index, name in enumerate(SKELETON.joints)}


def shipped() -> dict:
    """The shipped sketches, by file of descriptions and class."""
    folder = resources.files("data_pipelines").joinpath("descriptions")
    found = {}
    for file in folder.iterdir():
        for name, described in json.loads(file.read_text("utf-8"))["classes"].items():
            if "sketch" in described:
                found[file.name, name] = described["sketch"]
    return found


def moved(record: dict, frames: int = FRAMES) -> np.ndarray:
    return animate(parse_sketch(record, "a class", "a file"), frames)


def mirrored(record: dict) -> dict:
    """The same motion with left and right swapped."""

    def swap(text: str) -> str:
        words = {"left": "right", "right": "left"}
        return re.sub(r"\b(left|right)\b", lambda found: words[found[0]], text)

    def value(part: str, row: str) -> str:
        if part != "travel":
            return swap(row) if part == "torso" else row
        points = [point.split() for point in row.split(">")]
        return " > ".join(f"{-float(x)} {y}" for x, y in points)

    return {swap(part): value(part, row) for part, row in record.items()}


def test_all_classes_of_the_small_datasets_have_sketches():
    files = [file for file, _ in shipped()]
    counts = {name: files.count(f"{name}.json") for name in ("utd_mhad", "nw_ucla", "kinder_gator")}
    assert counts == {"utd_mhad": 27, "nw_ucla": 10, "kinder_gator": 58}


@pytest.mark.parametrize("file", sorted({file for file, _ in shipped()}))
def test_shipped_sketches_move_a_body_whose_bones_keep_their_lengths(file):
    rigid = [(c, p) for c, p in SKELETON.bones if SKELETON.joints[p] != "hip_center"]
    for (source, name), record in shipped().items():
        if source != file:
            continue
        joints = moved(record)
        assert joints.shape == (FRAMES, 20, 3)
        assert np.isfinite(joints).all(), name
        assert np.abs(joints).max() < 3, name
        assert np.any(joints != 0, axis=-1).all(), "zeros would be untracked joints"
        lengths = np.array([np.linalg.norm(joints[:, c] - joints[:, p], axis=-1) for c, p in rigid])
        np.testing.assert_allclose(lengths, lengths[:, :1] * np.ones(FRAMES), atol=1e-4)


def test_a_mirrored_sketch_is_the_mirrored_motion():
    names = {"left": "right", "right": "left"}
    swapped = [
        J["_".join(names.get(word, word) for word in joint.split("_"))] for joint in SKELETON.joints
    ]
    for record in shipped().values():
        other = moved(mirrored(record))[:, swapped] * (-1, 1, 1)
        np.testing.assert_allclose(other, moved(record), atol=1e-5)


@given(
    st.lists(st.sampled_from(["hang", "chest out", "top aside", "floor near"]), min_size=1),
    st.lists(st.sampled_from(sorted(HIPS)), min_size=1, max_size=4),
    st.lists(st.sampled_from(sorted(TORSO)), min_size=1, max_size=4),
)
def test_any_row_of_waypoints_gives_finite_joints(hand, hips, torso):
    rows = {"right hand": hand, "hips": hips, "torso": torso}
    joints = moved({part: " > ".join(row) for part, row in rows.items()}, 9)
    assert np.isfinite(joints).all()
    assert joints[:, :, 2].min() > -0.5


def test_repetitions_are_expanded():
    short = parse_sketch({"both hands": "hang > (chest out > waist)*2"}, "a", "b")
    assert short["left hand"] == ["hang", "chest out", "waist", "chest out", "waist"]
    assert short["left hand"] == short["right hand"]
    assert short["hips"] == ["stand"]
    assert set(short) == set(PARTS)


def test_the_animation_follows_the_waypoints():
    raised = moved({"right hand": "hang > top > hang"}, 25)
    hand, head = raised[:, J["right_hand"], 2], raised[:, J["head"], 2]
    assert hand[0] < raised[0, J["hip_center"], 2] + 0.1
    assert hand[12] > head[12]
    left = raised[:, J["left_hand"]]
    np.testing.assert_allclose(left, left[:1] * np.ones((25, 1)), atol=1e-6)
    hips = moved({"hips": "stand > jump > sit"}, 25)[:, J["hip_center"], 2]
    assert hips[12] > hips[0] > hips[-1]
    assert moved({"torso": "fold"})[0, J["head"], 1] > 0.4  # forward
    assert moved({"torso": "lean right"})[0, J["head"], 0] > 0.2
    turned = moved({"torso": "twist left"})[0]
    assert turned[J["right_shoulder"], 1] > turned[J["left_shoulder"], 1] + 0.1
    walked = moved({"travel": "0 0 > 0.5 2"})
    np.testing.assert_allclose(walked[-1, :, :2] - walked[0, :, :2], [[0.5, 2]] * 20, atol=1e-6)


@pytest.mark.parametrize("target", [KINECT_V1, KINECT_V2])
def test_an_imagined_clip_is_prepared_as_recorded_clips_are(target):
    sketch = parse_sketch({"both hands": "hang > chest front > hang"}, "push", "a file")
    clip = imagined_clip(sketch, target, "resample", (2, 16))
    assert clip.shape == (2, 16, target.num_joints, 3)
    assert not clip[1].any()  # one person moves
    np.testing.assert_allclose(clip[0, 0, target.hip_center], 0, atol=1e-6)
    right, left = (clip[0, 0, shoulder] for shoulder in target.shoulders)
    assert right[0] > left[0]


@pytest.mark.parametrize("sampling", TEMPORAL_SAMPLING)
def test_every_temporal_sampling_keeps_the_whole_motion(sampling):
    sketch = parse_sketch({"right hand": "hang > hang > top"}, "raise", "a file")
    clip = imagined_clip(sketch, KINECT_V1, sampling, (1, 16))[0]
    hand, head = J["right_hand"], J["head"]
    assert clip[0, hand, 2] < clip[0, head, 2] - 0.5
    assert clip[-1, hand, 2] > clip[-1, head, 2] - 0.01


def test_a_layout_without_a_mapping_is_refused():
    odd = OPENPOSE_18.__class__(**{**vars(OPENPOSE_18), "name": "odd"})
    with pytest.raises(ValueError, match="no mapping of joints from kinect_v1 to odd"):
        imagined_clip(parse_sketch({"hips": "sit"}, "sit", "a file"), odd, "resample", (1, 8))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, "expected an object from parts to waypoints, got {}"),
        ("wave", "expected an object from parts to waypoints, got 'wave'"),
        ({"arm": "hang"}, "expected parts from right hand, left hand, .*, got 'arm'"),
        ({"hips": "sit > fly"}, r"hips: .*of the words \(stand\) .*; got 'sit > fly'"),
        ({"left hand": "chest up"}, "left hand: .*of the words hang .*; got 'chest up'"),
        ({"left hand": "out"}, "left hand: "),  # no height
        ({"left hand": "chest head"}, "left hand: "),  # two heights
        ({"right foot": "floor"}, "right foot: "),
        ({"right foot": 3}, "right foot: .*got 3"),
        ({"travel": "0 0 > far away"}, "travel: .*metres to the right, metres forward"),
        ({"travel": "1"}, "travel: "),
        ({"torso": ""}, "torso: "),
        ({"right foot": ""}, "right foot: "),
        ({"right foot": "ground > > lifted"}, "right foot: "),
        ({"travel": "0 0 > nan 1"}, "travel: "),
        ({"travel": "0 0 > 0 1e9"}, "travel: "),
        ({"left hand": "hang", "both hands": "waist"}, "expected waypoints of 'left hand' once"),
    ],
)
def test_invalid_sketches_are_errors(record, expected):
    with pytest.raises(DataError, match=f"mine.json.*sketch of class 'wave': {expected}"):
        parse_sketch(record, "wave", "mine.json")
