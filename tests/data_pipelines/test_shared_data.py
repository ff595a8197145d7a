"""The real datasets, read from their owners' files: counts, orientation and protocols."""

import numpy as np
import pytest

from data_pipelines.prepared import prepare
from data_pipelines.protocols import make_protocol
from data_pipelines.skeletons import KINECT_V1
from tests.helpers.raw_files import load

pytestmark = [pytest.mark.shared_data, pytest.mark.slow]

FACTS = {
    # clips kept, classes, subjects, views, frames of the shortest and the longest clip
    "utd_mhad": (861, 27, 8, 1, 41, 125),
    "nw_ucla": (1388, 10, 10, 3, 6, 201),
    "kinder_gator": (1159, 58, 20, 2, 50, 525),
}
SPLITS = {"utd_mhad": "14_13", "nw_ucla": "8_2", "kinder_gator": "random-46_12-0"}


@pytest.fixture(scope="module", params=FACTS)
def corpus(request, shared_data, tmp_path_factory):
    """Each dataset, prepared in the cache of this test session."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DYNAPURLS_CACHE", str(tmp_path_factory.getbasetemp() / "real"))
    yield load(request.param, shared_data / request.param)
    patch.undo()


def test_counts(corpus):
    frames = [clip.shape[1] for clip in corpus.clips]
    assert frames == corpus.frames.tolist()
    assert (
        len(corpus),
        len(corpus.class_names),
        len(np.unique(corpus.subjects)),
        len(np.unique(corpus.views)),
        min(frames),
        max(frames),
    ) == FACTS[corpus.name]
    assert set(np.unique(corpus.labels)) == set(range(len(corpus.class_names)))
    if corpus.name == "nw_ucla":
        assert corpus.notes["dropped, exact duplicate of another clip"] == 94
        assert corpus.notes["dropped, a single frame"] == 2
        assert corpus.notes["untracked joints interpolated (joint-frames)"] == 12
    if corpus.name == "kinder_gator":
        assert [v for k, v in corpus.notes.items() if "'other' side" in k] == [200]


def test_no_clip_is_on_both_sides(corpus):
    hashes = [clip.tobytes() for clip in corpus.clips]
    assert len(set(hashes)) == len(hashes)


def test_bodies_are_upright_with_the_right_side_at_positive_x(corpus):
    prepared = prepare(corpus, 8, "resample").clips
    joint = KINECT_V1.joints.index
    assert (prepared[:, 0, 0, joint("head"), 2] > 0.2).mean() > 0.99
    assert (prepared[:, 0, 0, joint("right_foot"), 2] < -0.2).mean() > 0.97
    right, left = prepared[:, 0, 0, joint("right_hip"), 0], prepared[:, 0, 0, joint("left_hip"), 0]
    assert (right > left).mean() > 0.97


def test_the_right_hand_moves_left_in_swipe_left_of_utd_mhad(corpus):
    if corpus.name != "utd_mhad":
        return
    hand = KINECT_V1.joints.index("right_hand")

    def fastest_step(name):
        chosen = np.flatnonzero(corpus.labels == corpus.class_names.index(name))
        steps = [np.diff(corpus.clips[index][0, :, hand, 0]) for index in chosen]
        return np.mean([step[np.abs(step).argmax()] for step in steps])

    assert fastest_step("swipe left") < 0 < fastest_step("swipe right")


def test_splits_have_enough_clips_on_every_side(corpus):
    protocol = make_protocol(corpus, SPLITS[corpus.name])
    for side in (protocol.train, protocol.val, protocol.seen_test, protocol.unseen_test):
        assert len(side) >= 40
    assert set(corpus.labels[protocol.unseen_test]) == set(protocol.unseen)
