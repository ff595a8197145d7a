"""Gaps of clips are filled, unusable clips are refused, frame times become uniform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.mending import INTERPOLATED, UNEVEN, even_frames, mend, never_tracked
from tests.helpers.clips import person

USED = np.ones(20, bool)
CLIP = person(16)[None].astype(np.float64) + 2  # no joint near 0


@given(st.sets(st.tuples(st.integers(1, 14), st.integers(0, 19)), max_size=40), st.integers(0, 2))
def test_gaps_are_interpolated(gaps, kind):
    steady = (
        CLIP[:, :1] + np.linspace(0, 1, 16)[None, :, None, None]
    )  # linear: the expected result is known
    broken = steady.copy()
    for frame, joint in gaps:
        broken[0, frame, joint] = (np.nan, np.inf, 0)[kind]
    mended, statements = mend(broken, USED, None)
    np.testing.assert_allclose(mended, steady, atol=1e-12)
    assert statements == ([INTERPOLATED] if gaps else [])


def test_joints_that_are_not_used_may_be_anything():
    used = USED.copy()
    used[3] = False
    broken = CLIP.copy()
    broken[:, :, 3] = np.nan
    assert never_tracked(broken, None) == (3,)
    mended, statements = mend(broken, used, None)
    assert not statements
    assert not mended[:, :, 3].any()
    broken[:, :, 1:] = np.inf
    assert never_tracked(broken, 0) == tuple(range(1, 20))
    assert never_tracked(np.zeros_like(broken), 0) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip: clip[:, :1], "expected 2 or more frames, got 1"),
        (np.zeros_like, "all coordinates are 0"),
        (lambda clip: np.full_like(clip, np.nan), "no coordinate is finite"),
        (lambda clip: np.repeat(clip[:, :1], 9, axis=1), "no motion: all frames are the same"),
        (
            lambda clip: np.where(np.arange(16)[:, None, None] % 2, np.nan, clip),
            r"50% of the joint positions are missing .* at most 30%",
        ),
    ],
)
def test_unusable_clips_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        mend(change(CLIP), USED, None)


def test_the_root_of_relative_clips_is_not_a_gap():
    clip = CLIP - CLIP[:, :1, :1]
    clip[0, 7, 5] = 0  # a position that happens to be 0
    mended, statements = mend(clip, USED, root=0)
    assert not statements
    shift = mended[0, 0, 0]
    np.testing.assert_allclose(mended - shift, clip, atol=1e-12)
    assert np.any(mended != 0, axis=-1).all()
    # A person far from the origin, with hips untracked in the first frame, is not relative to them.
    lost = CLIP + 3
    lost[0, 0, 0] = 0
    mended, statements = mend(lost, USED, root=0)
    assert statements == [INTERPOLATED]
    np.testing.assert_array_equal(mended[0, 0, 0], lost[0, 1, 0])


def test_flat_clips_get_a_depth_of_0():
    mended, _ = mend(CLIP[..., :2], USED, None)
    np.testing.assert_array_equal(mended[..., :2], CLIP[..., :2])
    assert not mended[..., 2].any()


def test_absent_persons():
    late = CLIP + 1
    late[:, :5] = 0
    mended, statements = mend(np.concatenate([CLIP, 0 * CLIP, late]), USED, None)
    assert mended.shape == (2, 16, 20, 3)
    assert not statements
    assert not mended[1, :5].any()
    late[:, :, 4] = 0
    with pytest.raises(ValueError, match="person 2 lacks a joint in all frames"):
        mend(np.concatenate([CLIP, late]), USED, None)


def test_uniform_times_give_the_rate_and_others_are_resampled():
    times = np.arange(16) / 25
    clip, fps, statements = even_frames(CLIP, times)
    assert clip is CLIP
    assert fps == pytest.approx(25)
    assert not statements
    kept = np.array([0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15])  # two frames were lost
    line = CLIP[:, :1] + times[None, :, None, None]
    clip, fps, statements = even_frames(line[:, kept], times[kept])
    assert fps == pytest.approx(25)
    assert statements == [UNEVEN]
    np.testing.assert_allclose(clip, line, atol=1e-9)
    with pytest.raises(ValueError, match="expected increasing seconds"):
        even_frames(CLIP, times[::-1])
    with pytest.raises(ValueError, match="expected no long gaps, got 1e"):
        even_frames(CLIP[:, :4], np.array([0, 0.01, 0.02, 1e5]))
