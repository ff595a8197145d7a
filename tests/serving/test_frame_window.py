"""Sliding windows over frames."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynapurls_jax.serving.frame_window import FrameWindow


def windows(times, length=1.0, stride=0.5, persons=lambda _: 1):
    """Each window with the number of the frame that completes it; values of frames are times."""
    window, found = FrameWindow(length, stride), []
    for number, time in enumerate(times):
        frame = np.full((persons(number), 3, 3), time, np.float32)
        if (one := window.add(frame, time)) is not None:
            found.append((number, one))
    return found


def test_a_window_of_the_last_second_is_emitted_every_stride():
    found = windows(np.arange(31) / 10)
    assert [number for number, _ in found] == [10, 15, 20, 25, 30]
    for number, window in found:
        np.testing.assert_allclose(window.times, np.arange(number - 10, number + 1) / 10)
        np.testing.assert_allclose(window.joints[0, :, 0, 0], window.times)
    assert [window.fresh for _, window in found] == [True, False, False, True, False]


@given(
    st.lists(st.floats(0.01, 0.3), min_size=2, max_size=80), st.floats(0.2, 2), st.floats(0.1, 1)
)
def test_windows_of_uneven_frames(steps, length, share):
    times = np.cumsum(steps)
    found = windows(times, length, share * length)
    for number, window in found:
        assert window.times[-1] == times[number]
        assert np.ptp(window.times) <= length + 1e-5
        assert (np.diff(window.times) > 0).all()
    fresh = [window.times for _, window in found if window.fresh]
    assert all(before[-1] < after[0] for before, after in pairwise(fresh))
    ends = np.array([window.times[-1] for _, window in found])
    assert (np.diff(ends) >= share * length - 1e-5).all()


def test_the_number_of_persons_may_change_and_a_long_pause_ends_a_window():
    ((_, window),) = windows(np.arange(11) / 10, persons=lambda number: 1 + (number > 5))
    assert window.joints.shape == (2, 11, 3, 3)
    assert (window.joints[1, :6] == 0).all()
    assert (window.joints[1, 6:] > 0).all()
    times = np.concatenate([np.arange(9) / 10, 5 + np.arange(11) / 10])
    ((number, window),) = windows(times)
    assert number == 19
    assert window.times[0] == 5


def test_wrong_frames_and_settings_are_refused():
    with pytest.raises(ValueError, match="got window 1 s and stride 2 s"):
        FrameWindow(1.0, 2.0)
    window = FrameWindow(1.0, 1.0)
    window.add(np.zeros((1, 3, 3)), 1.0)
    with pytest.raises(ValueError, match="time: expected more than 1 s, got 1"):
        window.add(np.zeros((1, 3, 3)), 1.0)
    with pytest.raises(ValueError, match="frame: expected 3 joints, got 4"):
        window.add(np.zeros((1, 4, 3)), 2.0)
