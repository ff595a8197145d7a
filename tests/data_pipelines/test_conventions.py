"""Coordinate conventions: transformations of a person in the project's frame are inverted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_pipelines.body_height import body_height
from data_pipelines.conventions import (
    ASSUMED_HEIGHT,
    Conventions,
    Declared,
    find_conventions,
    forwardness,
    to_project,
)
from data_pipelines.formats.clip_archive import UP_AXES
from data_pipelines.layouts import COMMON
from tests.helpers.clips import person

J = {name: index for index, name in enumerate(COMMON.joints)}
PERSON = person(16)[None].astype(np.float64)
PROJECT = Conventions("z", False, 1.0, ())


def upright(up: str) -> np.ndarray:
    """A rotation of z to an axis, computed independently of the tested code."""
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
    return Rotation.align_vectors([axis], [[0, 0, 1]])[0].as_matrix()


@given(
    st.sampled_from(UP_AXES),
    st.floats(-3.1, 3.1),
    st.sampled_from([1.0, 100.0, 1000.0]),
    st.booleans(),
    st.integers(0, 99),
)
def test_axes_heading_unit_and_mirroring_are_inverted(up, heading, unit, mirrored, seed):
    turn = upright(up) @ Rotation.from_euler("z", heading).as_matrix()
    shift = np.random.default_rng(seed).normal(size=3)
    clip = (PERSON @ turn.T + shift) * unit
    if mirrored:
        clip[..., seed % 3] *= -1
        if up.endswith("xyz"[seed % 3]):
            up = up[1:] if up.startswith("-") else f"-{up}"
    found = find_conventions([clip], Declared())
    assert (found.up, found.mirrored) == (up, mirrored)
    assert found.metres == 1 / unit
    np.testing.assert_allclose(to_project(clip, found), to_project(PERSON, PROJECT), atol=1e-5)
    text = " ".join(found.statements)
    assert ("mirrored" in text) == mirrored
    assert (f"up is {up}," in text) == (up != "y")
    assert ("metres (a body" in text) == (unit > 1)


def test_the_result_is_in_the_project_frame():
    clip = to_project(PERSON, PROJECT)
    assert clip.dtype == np.float32
    right = clip[0, 0, J["right_shoulder"]] - clip[0, 0, J["left_shoulder"]]
    assert right[0] > 0.3
    assert abs(right[1]) < 1e-5
    assert clip[0, 0, J["left_foot"], 1] > clip[0, 0, J["left_ankle"], 1] + 0.1
    np.testing.assert_allclose(clip[0, 0, J["hip_center"], :2], 0, atol=1e-6)
    assert clip[..., 2].min() == pytest.approx(0.01)
    # The motion is rigid: differences in height are unchanged.
    np.testing.assert_allclose(
        np.diff(clip, axis=2)[..., 2], np.diff(PERSON, axis=2)[..., 2], atol=1e-5
    )


def test_declared_conventions_are_not_estimated():
    declared = Declared(up="x", mirrored=True, metres=0.5)
    found = find_conventions([PERSON], declared)
    assert found == Conventions("x", True, 0.5, ())
    for values in ({"up": "upwards"}, {"metres": 0}, {"metres": float("nan")}, {"fps": -1}):
        with pytest.raises(ValueError, match=next(iter(values))):
            Declared(**values)


def test_absent_persons_stay_absent():
    two = np.concatenate([PERSON, PERSON + np.array([1, 0, 0])])
    two[1, :5] = 0
    clip = to_project(two, find_conventions([two], Declared()))
    assert not clip[1, :5].any()
    np.testing.assert_allclose(clip[1, 5:], clip[0, 5:] + np.array([1, 0, 0]), atol=1e-5)


def test_a_person_who_lies_down_makes_the_up_axis_unclear():
    standing = PERSON @ upright("y").T
    half = np.concatenate([standing[:, :8], (PERSON @ upright("x").T)[:, 8:]], axis=1)
    found = find_conventions([half], Declared())
    assert found.up == "y"
    assert "not clear" in found.statements[0]


@pytest.mark.parametrize("up", ["y", "-y"])
@pytest.mark.parametrize("facing", [1, -1])
def test_flat_clips_keep_height_and_sides(up, facing):
    image = np.zeros_like(PERSON)
    image[..., 0] = 200 * facing * PERSON[..., 0] + 320
    image[..., 1] = 200 * (1 if up == "y" else -1) * PERSON[..., 2] + 240
    found = find_conventions([image], Declared(), unit_known=True)
    assert found.up == up
    assert any("2D input" in text for text in found.statements)
    assert any("scaled to a height of 1.7 m" in text for text in found.statements)
    clip = to_project(image, found)
    assert not clip[..., 1].any()
    scale = np.ptp(clip[..., 2]) / np.ptp(PERSON[..., 2])
    assert 0.8 < scale < 1.2
    expected = to_project(scale * PERSON, PROJECT)
    np.testing.assert_allclose(clip[..., 0], expected[..., 0], atol=1e-4)
    np.testing.assert_allclose(
        np.diff(clip[..., 2], axis=2), np.diff(expected[..., 2], axis=2), atol=1e-4
    )


def test_unknown_units_are_errors_or_scaled():
    message = r"expected a body of 0\.5 to 2\.5 m .* got a height of 16\.9; declare"
    with pytest.raises(ValueError, match=message):
        find_conventions([10 * PERSON], Declared())
    found = find_conventions([10 * PERSON], Declared(), unit_known=False)
    height = body_height(10 * PERSON[0], COMMON)
    assert found.metres == pytest.approx(ASSUMED_HEIGHT / height)
    assert any("the unit is unknown" in text for text in found.statements)
    with pytest.raises(ValueError, match="got a height of 0"):
        find_conventions([np.ones((1, 4, 20, 3))], Declared())


def test_straight_legs_without_feet_do_not_show_mirroring():
    straight = PERSON.copy()
    for side in ("left", "right"):
        hip, ankle = straight[..., J[f"{side}_hip"], :], straight[..., J[f"{side}_ankle"], :]
        straight[..., J[f"{side}_knee"], :] = (hip + ankle) / 2
        straight[..., J[f"{side}_foot"], :] = 1.1 * ankle - 0.1 * hip
    for sign in (1, -1):
        found = find_conventions([straight * [sign, 1, 1]], Declared())
        assert not found.mirrored
        assert "right-handed is assumed" in found.statements[-1]


def test_knees_and_feet_are_in_front():
    front = forwardness(PERSON[0])
    assert front > 0.1
    assert forwardness(PERSON[0] * [-1, 1, 1]) == pytest.approx(-front)
