"""The lexicon: all lines can be read, mirrored and animated."""

import numpy as np
import pytest

from data_pipelines.animation import animate
from data_pipelines.errors import DataError
from data_pipelines.lexicon import load_lexicon, mirrored, other_side
from data_pipelines.skeletons import KINECT_V1

ENTRIES = load_lexicon()


def test_all_actions_are_animated():
    assert len(ENTRIES) > 400
    for entry in ENTRIES:
        joints = animate(entry.sketch, 16)
        assert joints.shape == (16, 20, 3)
        assert np.isfinite(joints).all(), entry.names


def test_first_names_differ():
    names = [entry.names[0] for entry in ENTRIES]
    assert len(set(names)) == len(names)


def test_a_mirrored_sketch_is_the_mirrored_motion():
    other = [KINECT_V1.joints.index(other_side_of(joint)) for joint in KINECT_V1.joints]
    for entry in ENTRIES[::20]:
        expected = animate(entry.sketch, 8)[:, other] * np.array([-1, 1, 1], np.float32)
        np.testing.assert_allclose(animate(mirrored(entry.sketch), 8), expected, atol=1e-5)


def other_side_of(joint):
    return other_side(joint.replace("_", " ")).replace(" ", "_")


def test_mirroring_twice_changes_nothing():
    for entry in ENTRIES:
        twice = mirrored(mirrored(entry.sketch))
        np.testing.assert_array_equal(animate(twice, 4), animate(entry.sketch, 4))


def test_a_marked_line_defines_the_mirrored_action(tmp_path):
    file = tmp_path / "lexicon.txt"
    file.write_text("# a comment\n\n~ lift the right hand | right hand up :: R: hang > top\n")
    first, second = load_lexicon(file)
    assert first.names == ("lift the right hand", "right hand up")
    assert second.names == ("lift the left hand", "left hand up")
    assert first.sketch["right hand"] == second.sketch["left hand"] == ["hang", "top"]
    assert second.sketch["right hand"] == ["hang"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wave", "expected 'name | other name :: part: waypoints', got 'wave'"),
        ("wave | :: R: hang", "expected 'name"),
        ("wave :: X: hang", "expected each of R, L, .*, got ' X: hang'"),
        ("wave :: R: hang; R: top", "at most once, got ' R: top'"),
        ("wave :: R: hang > moon", "sketch of class 'wave': right hand: expected waypoints"),
        ("wave :: R: hang\nwave :: R: top", "'wave' is defined twice"),
    ],
)
def test_errors_have_the_line(tmp_path, line, message):
    file = tmp_path / "lexicon.txt"
    file.write_text(line)
    with pytest.raises(DataError, match=message) as caught:
        load_lexicon(file)
    assert f"line {line.count(chr(10)) + 1}" in str(caught.value)
