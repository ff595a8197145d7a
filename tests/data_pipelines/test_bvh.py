"""BVH files: parsing, forward kinematics against a slow reference, and damaged files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_pipelines.errors import DataError
from data_pipelines.formats.bvh import END, Bvh, bvh_text, joint_positions, parse_bvh

REAL = ("dab", "zombie", "jumping_jacks_cmu", "wave-left-hand", "dash", "run_aalto")


def random_bvh(seed: int, joints: int = 7, frames: int = 4) -> Bvh:
    """A random tree, with channels in random order and position channels at any joint."""
    rng = np.random.default_rng(seed)
    bvh = Bvh(frame_time=float(rng.uniform(0.005, 0.1)))

    def grow(parent: int, depth: int) -> None:
        bvh.names.append(f"joint{len(bvh.names)}")
        bvh.parents.append(parent)
        bvh.offsets.append(rng.normal(size=3).tolist())
        turns = [f"{axis}rotation" for axis in rng.permutation(list("XYZ"))[: rng.integers(4)]]
        moves = [f"{axis}position" for axis in rng.permutation(list("XYZ"))[: rng.integers(4)]]
        bvh.channels.append([*moves, *turns] if rng.random() < 0.5 else [*turns, *moves])
        own = len(bvh.names) - 1
        for _ in range(rng.integers(3) if depth < 4 else 0):
            if len(bvh.names) < joints:
                grow(own, depth + 1)
        if rng.random() < 0.5:
            bvh.names.append(bvh.names[own] + END)
            bvh.parents.append(own)
            bvh.offsets.append(rng.normal(size=3).tolist())
            bvh.channels.append([])

    grow(-1, 0)
    bvh.motion = rng.uniform(-200, 200, size=(frames, sum(map(len, bvh.channels))))
    return bvh


def slow_positions(bvh: Bvh) -> np.ndarray:
    """Positions by iteration from each joint to its root, with rotations of scipy."""
    first = np.cumsum([0, *map(len, bvh.channels)])
    positions = np.zeros((len(bvh.motion), len(bvh.names), 3))
    for frame, values in enumerate(bvh.motion):
        for joint in range(len(bvh.names)):
            point, at = np.zeros(3), joint
            while at >= 0:
                pairs = list(zip(bvh.channels[at], values[first[at] :], strict=False))
                turns = [(name[0], value) for name, value in pairs if "rot" in name]
                if turns:
                    order = "".join(axis for axis, _ in turns)
                    angles = [value for _, value in turns]
                    point = Rotation.from_euler(order, angles, degrees=True).apply(point)
                    point = point.reshape(3)
                moved = np.array(bvh.offsets[at])
                for name, value in pairs:
                    if "pos" in name:
                        moved["XYZ".index(name[0])] = value
                point, at = point + moved, bvh.parents[at]
            positions[frame, joint] = point
    return positions


@given(st.integers(0, 10**6))
def test_kinematics_agree_with_the_slow_reference(seed):
    bvh = random_bvh(seed)
    np.testing.assert_allclose(joint_positions(bvh), slow_positions(bvh), atol=1e-9)


@given(st.integers(0, 10**6))
def test_a_written_file_is_read_back(seed):
    bvh = random_bvh(seed)
    if not bvh.motion.shape[1]:  # frames without numbers are empty lines
        return
    back = parse_bvh(bvh_text(bvh).encode(), "a file")
    assert (back.names, back.parents, back.channels) == (bvh.names, bvh.parents, bvh.channels)
    assert back.frame_time == bvh.frame_time
    np.testing.assert_array_equal(back.offsets, bvh.offsets)
    np.testing.assert_array_equal(back.motion, bvh.motion)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL)
def test_real_files_agree_with_the_slow_reference(shared_data, name):
    file = shared_data / "bvh" / f"{name}.bvh"
    bvh = parse_bvh(file.read_bytes(), file)
    bvh.motion = bvh.motion[:: max(1, len(bvh.motion) // 5)]
    positions = joint_positions(bvh)
    np.testing.assert_allclose(positions, slow_positions(bvh), rtol=1e-9, atol=1e-6)
    # Bones keep their length, except below a joint with position channels.
    for joint, parent in enumerate(bvh.parents):
        if parent >= 0 and not any("pos" in channel for channel in bvh.channels[joint]):
            length = np.linalg.norm(positions[:, joint] - positions[:, parent], axis=1)
            np.testing.assert_allclose(length, np.linalg.norm(bvh.offsets[joint]), atol=1e-6)


GOOD = """HIERARCHY
ROOT hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT knee
  {
    OFFSET 0 -1 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
1 2 3 90 0 0 0 0 0
1 2 3 0 0 0 90 0 0
"""


def test_a_rotation_of_90_degrees():
    bvh = parse_bvh(GOOD.encode(), "a file")
    assert bvh.names == ["hips", "knee", "knee_end"]
    expected = [[[1, 2, 3], [2, 2, 3], [3, 2, 3]], [[1, 2, 3], [1, 1, 3], [2, 1, 3]]]
    np.testing.assert_allclose(joint_positions(bvh), expected, atol=1e-12)


def test_other_white_space_case_and_positions_of_braces_are_read():
    text = GOOD.replace("  ", "\t").replace("position", "POSITION").replace("hips\n{", "hips {")
    text = text.replace("\n", "\r\n\r\n")
    assert parse_bvh(text.encode(), "a file").motion.shape == (2, 9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "hello", "line 1: expected HIERARCHY, got 'hello'"),
        ("ROOT hips", "ROOT", "line 2: expected a unique joint name, got ''"),
        ("JOINT knee", "JOINT hips", "line 6: expected a unique joint name, got 'hips'"),
        ("JOINT knee", "ROOT knee", "line 6: expected ROOT, JOINT, End Site"),
        ("ROOT hips\n{", "ROOT hips\n", "line 4: expected {, got 'OFFSET'"),
        ("OFFSET 0 -1 0", "OFFSET 0 -1", "line 8: expected ROOT, JOINT, End Site, OFFSET x y z"),
        ("OFFSET 0 -1 0", "OFFSET 0 nan 0", "line 8: expected finite numbers"),
        ("CHANNELS 3", "CHANNELS 4", "line 9: expected a number and channels"),
        ("3 Zrotation", "3 Zturn", "got 'CHANNELS 3 Zturn"),
        ("3 Zrotation", "3 Xrotation", "line 9: expected different channels"),
        ("MOTION", "", "line 17: expected ROOT, JOINT"),
        ("Frames: 2", "Frames: two", "line 17: expected Frames: and a number from 1 on, got 'two'"),
        (
            "Frames: 2",
            "Frames: 3",
            "line 20: expected 3 frames (here frame 2), got the end of the file",
        ),
        ("Frames: 2", "Frames: 1", "line 19: expected the end of the file after 1 frames"),
        ("Frame Time: 0.05", "Frame Time: 0", "line 18: expected a Frame Time above 0, got 0.0"),
        ("1 2 3 90 0 0 0 0 0", "1 2 3 90 0 0 0 0", "line 19: expected 9 numbers, one per channel"),
        ("1 2 3 90", "1 2 3 x", "line 19: expected numbers"),
        ("1 2 3 90", "1 2 3 inf", "line 19: expected finite numbers"),
        ("Frames: 2", "Frames: 99999999", "expected at most 16777216 frames times joints"),
    ],
)
def test_errors_name_the_line(old, new, message):
    with pytest.raises(DataError) as error:
        parse_bvh(GOOD.replace(old, new, 1).encode(), "a file")
    assert message in str(error.value)


def test_too_many_and_too_deep_joints_are_refused():
    deep = "HIERARCHY\nROOT r\n{\n" + "".join(f"JOINT j{i}\n{{\n" for i in range(5000))
    with pytest.raises(DataError, match="expected at most 1024 joints"):
        parse_bvh(deep.encode(), "a file")


@given(st.integers(0, len(GOOD)), st.integers(0, 100), st.binary(max_size=9))
def test_damaged_files_are_errors_or_finite(at, cut, piece):
    content = GOOD.encode()
    try:
        bvh = parse_bvh(content[:at] + piece + content[at + cut :], "a file")
    except DataError:
        return
    assert np.isfinite(joint_positions(bvh)).all()
