"""Posture and motion of upright clips: against NumPy, and their invariances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.animation import animate
from data_pipelines.skeletons import KINECT_V1, OPENPOSE_18
from data_pipelines.sketches import parse_sketch
from data_pipelines.temporal_sampling import normalise_upright
from dynapurls_jax.encoders.posture import Posture
from dynapurls_jax.registry import NoSettings

SKETCHES = {
    "wave": {"right hand": "hang > (head out > head near)*2 > hang"},
    "squat": {"hips": "stand > low > stand"},
    "jump": {"hips": "stand > dip > jump > dip > stand", "both hands": "hang > top > hang"},
}
STATISTICS = 240  # of coordinates: the first numbers


@pytest.fixture(scope="module")
def clips():
    """Animated sketches, `[3, 1, 32, 20, 3]`."""
    found = [animate(parse_sketch(sketch, name, "test"), 32) for name, sketch in SKETCHES.items()]
    return np.stack(found)[:, None]


TOKENS = jax.jit(Posture(NoSettings(), KINECT_V1).tokens)  # compiled once for all tests


def features(clips, tokens=TOKENS):
    return np.asarray(tokens(clips))[:, 0, 0]


def test_angles_and_distances_are_those_of_numpy(clips):
    found = features(clips)
    joint = dict(zip(KINECT_V1.joints, np.moveaxis(clips[:, 0], 2, 0), strict=True))
    upper = joint["left_shoulder"] - joint["left_elbow"]
    lower = joint["left_wrist"] - joint["left_elbow"]
    size = np.linalg.norm(upper, axis=-1) * np.linalg.norm(lower, axis=-1)
    elbow = np.arccos(np.clip((upper * lower).sum(-1) / size, -1, 1))
    measures = found[:, STATISTICS : STATISTICS + 105].reshape(len(clips), 5, 21)
    expected = [elbow.mean(1), elbow.std(1), np.abs(np.diff(elbow)).mean(1), elbow.max(1)]
    for number, values in enumerate([*expected, elbow.min(1)]):
        np.testing.assert_allclose(measures[:, number, 0], values, atol=2e-3)


def test_a_squat_lowers_the_hip_and_a_jump_lifts_it(clips):
    height = features(clips)[:, STATISTICS + 105 + 20 :][:, :5]
    mean, low, high, lift, _ = height.T
    assert low[1] < low[0] - 0.2
    assert lift[2] > lift[0] + 0.05
    assert (low <= mean + 1e-5).all()
    assert (mean <= high + 1e-5).all()


def test_features_do_not_depend_on_size_position_and_heading(clips):
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    moved = 1.3 * clips[:, 0] @ turn.T + np.array([3.0, -2.0, 0.0])
    there = [normalise_upright(clip[None].astype(np.float32), KINECT_V1) for clip in moved]
    here = [normalise_upright(clip, KINECT_V1) for clip in clips]
    np.testing.assert_allclose(features(np.stack(there)), features(np.stack(here)), atol=0.01)


def test_a_mirrored_clip_swaps_the_sides(clips):
    swapped = [
        KINECT_V1.joints.index(
            name.replace("left", "*").replace("right", "left").replace("*", "right")
        )
        for name in KINECT_V1.joints
    ]
    mirrored = clips[..., swapped, :] * np.array([-1, 1, 1], np.float32)
    one, other = features(clips), features(mirrored)
    measures, images = (x[:, STATISTICS:][:, :105].reshape(3, 5, 21) for x in (one, other))
    pairs = [1, 0, 3, 2, 5, 4, 7, 6, 8, 9, 10, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19]
    np.testing.assert_allclose(images, measures[..., pairs], atol=1e-3)


def test_absent_frames_and_persons_have_no_effect(clips):
    gap = clips.copy()
    gap[:, :, 20:] = gap[:, :, 19:20]
    absent = gap.copy()
    absent[:, :, 20:] = 0
    found, expected = features(absent), features(gap)
    np.testing.assert_allclose(found[:, STATISTICS:], expected[:, STATISTICS:], atol=1e-4)
    two = np.concatenate([clips, np.zeros_like(clips)], axis=1)
    np.testing.assert_allclose(features(two), features(clips), atol=1e-5)
    assert np.isfinite(features(np.zeros_like(clips))).all()


def test_joints_are_read_by_name_or_refused(clips):
    order = list(range(19, -1, -1))
    place = {joint: index for index, joint in enumerate(order)}
    other = dataclasses.replace(
        KINECT_V1,
        joints=tuple(KINECT_V1.joints[joint] for joint in order),
        parents=tuple(place[KINECT_V1.parents[joint]] for joint in order),
        hip_center=place[KINECT_V1.hip_center],
        spine_top=place[KINECT_V1.spine_top],
    )
    found = features(clips[..., order, :], jax.jit(Posture(NoSettings(), other).tokens))
    np.testing.assert_allclose(found, features(clips), atol=1e-4)
    with pytest.raises(ValueError, match="encoder posture reads the joints of kinect_v1"):
        Posture(NoSettings(), OPENPOSE_18).tokens(jnp.zeros((1, 1, 8, 18, 3)))


def test_upright_clips_have_their_lowest_point_on_the_floor_and_keep_their_lean(clips):
    tilt = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    leaning = (clips[0] @ tilt.T + np.array([1.0, 2.0, 5.0])).astype(np.float32)
    found = normalise_upright(leaning, KINECT_V1)
    np.testing.assert_allclose(found[..., 2].min(), 0.01, atol=1e-5)
    np.testing.assert_allclose(found[0, 0, 0, :2], 0, atol=1e-5)
    spine = found[0, :, 2] - found[0, :, 0]
    expected = leaning[0, :, 2] - leaning[0, :, 0]
    np.testing.assert_allclose(spine[:, 2], expected[:, 2], atol=1e-5)
    across = found[0, 0, 8] - found[0, 0, 4]
    np.testing.assert_allclose(across[1], 0, atol=1e-5)
    assert across[0] > 0
