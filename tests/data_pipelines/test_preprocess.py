"""Normalisation, resampling, augmentation, cleaning and joint mappings: properties for any clip."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_pipelines.cleaning import fill_gaps
from data_pipelines.datasets import clean_corpus
from data_pipelines.prepared import prepare
from data_pipelines.preprocess import augment, to_streams
from data_pipelines.settings import STREAMS, Augmentation
from data_pipelines.skeletons import KINECT_V1, KINECT_V2, OPENPOSE_18, map_joints
from data_pipelines.temporal_sampling import (
    loop,
    normalise,
    normalise_published,
    pad,
    resample,
)
from tests.helpers.corpora import tiny_corpus
from tests.helpers.skeleton_text import body

augmented = jax.jit(augment, static_argnames="strength")


def _clip(seed, frames=9, persons=2, joints=25):
    return np.random.default_rng(seed).normal(size=(persons, frames, joints, 3)).astype(np.float32)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-5, 5)] * 3))
def test_normalise_is_invariant_to_the_camera(seed, angles, place):
    clip = _clip(seed)
    turn = Rotation.from_euler("xyz", angles).as_matrix()
    moved = (clip @ turn.T + np.array(place)).astype(np.float32)
    np.testing.assert_allclose(normalise(moved, KINECT_V2), normalise(clip, KINECT_V2), atol=2e-4)


def test_normalise_aligns_the_spine_with_z_and_the_shoulders_with_x():
    clip = normalise(_clip(3), KINECT_V2)
    first = clip[0, 0]
    spine = first[KINECT_V2.spine_top] - first[KINECT_V2.hip_center]
    across = first[KINECT_V2.shoulders[0]] - first[KINECT_V2.shoulders[1]]
    np.testing.assert_allclose(first[KINECT_V2.hip_center], 0, atol=1e-6)
    np.testing.assert_allclose(spine[:2], 0, atol=1e-5)
    assert spine[2] > 0
    assert abs(across[1]) < 1e-5
    assert across[0] > 0


def test_normalise_keeps_absent_persons_and_accepts_degenerate_bodies():
    clip = _clip(0)
    clip[1] = 0
    assert not normalise(clip, KINECT_V2)[1].any()
    clip[0, 0] = clip[0, 0, :1]  # all joints in one point: no axes in this frame
    assert np.isfinite(normalise(clip, KINECT_V2)).all()
    assert np.isfinite(normalise(np.ones_like(clip), KINECT_V2)).all()


@settings(max_examples=10)
@given(st.integers(2, 40), st.integers(2, 40))
def test_resample_keeps_ends_and_straight_lines(frames, wanted):
    line = np.linspace(1, 2, frames, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 2, 3))
    got = resample(line, wanted)
    np.testing.assert_allclose(got[0, :, 0, 0], np.linspace(1, 2, wanted), atol=1e-5)


def _heights(person):
    """Height of a person `[T, V, 3]` in each frame in which the person is present."""
    return np.ptp(person[..., 1], axis=1)[person.any(axis=(1, 2))]


@pytest.mark.parametrize("frames", [12, 32, 45])
def test_resample_does_not_shrink_a_person_who_appears_or_disappears(frames):
    clip = np.stack([body(0), body(1)])
    clip[1, :3] = clip[1, 17:] = 0
    second = resample(clip, frames)[1]
    assert _heights(second).min() > 0.9 * _heights(clip[1]).min()
    assert second.any(axis=(1, 2)).sum() == pytest.approx(14 / 30 * frames, abs=1)


def test_augment_does_not_shrink_bodies_at_the_end_of_a_padded_clip():
    clips = np.repeat(pad(body(0)[None], 45)[None], 16, axis=0)
    strength = Augmentation(turn=0.0, tilt=0.0, crop=0.5, scale=0.0, noise=0.0)
    keys = jax.random.split(jax.random.key(0), len(clips))
    for cropped in np.asarray(augmented(jnp.asarray(clips), keys, strength)):
        assert _heights(cropped[0]).min() > 0.9 * _heights(clips[0, 0]).min()


def test_pad_fills_with_zeros_and_cuts():
    clip = _clip(0, frames=5)
    assert pad(clip, 8).shape[1] == 8
    assert not pad(clip, 8)[:, 5:].any()
    np.testing.assert_array_equal(pad(clip, 3), clip[:, :3])


def test_loop_repeats_each_person_from_the_first_frame():
    clip = _clip(0, frames=5)
    got = loop(clip, 12)
    np.testing.assert_array_equal(got[0], clip[0, [0, 1, 2, 3, 4] * 2 + [0, 1]])
    late = clip.copy()
    late[1, :2] = late[1, 4] = 0
    np.testing.assert_array_equal(loop(late, 12)[1], clip[1, [2, 3] * 6])
    early = clip.copy()
    early[1, 1] = early[1, 4] = 0  # the gap is kept, the end is filled
    np.testing.assert_array_equal(loop(early, 8)[1], early[1, [0, 1, 2, 3] * 2])
    alone = clip.copy()
    alone[1] = 0
    assert not loop(alone, 12)[1].any()
    np.testing.assert_array_equal(loop(clip, 3), clip[:, :3])


def test_the_published_normalisation_centres_every_frame():
    clip = _clip(3)
    clip[1, 4] = 0
    got = normalise_published(clip, KINECT_V2)
    np.testing.assert_allclose(got[0, :, 1], 0, atol=1e-6)
    across = got[0, 0, 8] - got[0, 0, 4]
    np.testing.assert_allclose(across[1:], 0, atol=1e-5)  # right minus left shoulder is the x axis
    assert across[0] > 0
    assert not got[1, 4].any()
    np.testing.assert_allclose(  # rigid: distances to the centre are kept
        np.linalg.norm(got[1, 3], axis=-1),
        np.linalg.norm(clip[1, 3] - clip[0, 3, 1], axis=-1),
        rtol=1e-5,
    )
    assert np.isfinite(normalise_published(np.ones_like(clip), KINECT_V2)).all()


@settings(max_examples=10)
@given(st.permutations(STREAMS), st.integers(1, 4))
def test_streams_match_their_definitions(names, count):
    clips = _clip(5)[None]
    clips[0, 1] = 0
    got = np.asarray(to_streams(jnp.asarray(clips), names[:count], KINECT_V2.parents))
    assert got.shape == (1, 2, 9, 25, 3 * count)
    assert not got[0, 1].any()
    for index, name in enumerate(names[:count]):
        stream = got[0, 0, ..., 3 * index : 3 * index + 3]
        joints = clips[0, 0]
        source = joints if name.startswith("joint") else joints - joints[:, list(KINECT_V2.parents)]
        if name.endswith("motion"):
            np.testing.assert_allclose(stream[:-1], np.diff(source, axis=0), atol=1e-5)
            assert not stream[-1].any()
        else:
            np.testing.assert_allclose(stream, source, atol=1e-6)


def test_prepared_clips_are_stored_and_made_again_for_another_corpus(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path))
    corpus = tiny_corpus(classes=2, subjects=2, takes=1)
    first = np.array(prepare(corpus, 8, "pad").clips)  # a copy: the file is damaged below
    np.testing.assert_array_equal(first[1], pad(normalise(corpus.clips[1], KINECT_V1), 8))
    assert "preparing 4 clips" in capsys.readouterr().err
    np.testing.assert_array_equal(prepare(corpus, 8, "pad").clips, first)
    assert "preparing" not in capsys.readouterr().err
    other = prepare(tiny_corpus(classes=2, subjects=2, takes=1, seed=1), 8, "pad").clips
    assert not np.array_equal(other, first)
    assert prepare(corpus, 8, "resample", "kinect_v2").clips.shape == (4, 1, 8, 25, 3)
    for array in tmp_path.rglob("array.bin"):
        array.write_bytes(array.read_bytes()[:200])  # damaged: made again
    np.testing.assert_array_equal(prepare(corpus, 8, "pad").clips, first)


def test_a_failed_preparation_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path))
    corpus = tiny_corpus(classes=2, subjects=2, takes=1)
    broken = dataclasses.replace(corpus, clips=[*corpus.clips[:3], None])
    with pytest.raises(TypeError):
        prepare(broken, 8, "pad")
    assert {path.suffix for path in (tmp_path / "prepared").iterdir()} == {".lock", ".part"}
    prepared = prepare(corpus, 8, "pad")
    assert len(prepared.clips) == 4
    assert all(np.any(clip != 0) for clip in prepared.clips)


def test_unknown_samplings_and_layouts_are_errors():
    with pytest.raises(ValueError, match="unknown temporal_sampling 'stretch'"):
        prepare(tiny_corpus(), 16, "stretch")
    with pytest.raises(ValueError, match="did you mean 'openpose_18'"):
        prepare(tiny_corpus(), 16, "pad", "openpose18")


def test_augment_is_rigid_up_to_scale_and_keeps_zeros():
    clips = _clip(1)[None].repeat(3, axis=0)
    clips[:, 1] = 0
    strength = Augmentation(turn=0.5, tilt=0.2, crop=1.0, scale=0.2, noise=0.0)
    keys = jax.random.split(jax.random.key(0), 3)
    got = np.asarray(augmented(jnp.asarray(clips), keys, strength))
    assert not got[:, 1].any()
    for before, after in zip(clips[:, 0], got[:, 0], strict=True):
        old = np.linalg.norm(before[:, :1] - before, axis=-1)
        new = np.linalg.norm(after[:, :1] - after, axis=-1)
        ratio = new[old > 0.1] / old[old > 0.1]
        assert ratio.std() < 1e-3  # one scale for the whole clip
        assert 0.8 <= ratio.mean() <= 1.2
        assert np.linalg.det(np.linalg.lstsq(before[0], after[0], rcond=None)[0]) > 0  # no mirror
    assert not np.allclose(got[0], got[1])  # clips are augmented independently


def test_augment_without_strength_is_the_identity():
    clips = jnp.asarray(_clip(2)[None])
    nothing = Augmentation(turn=0.0, tilt=0.0, crop=1.0, scale=0.0, noise=0.0)
    keys = jax.random.split(jax.random.key(0), 1)
    np.testing.assert_allclose(augmented(clips, keys, nothing), clips, atol=1e-5)


def test_gaps_are_filled_by_interpolation_and_counted():
    clip = np.linspace(1, 2, 5, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 3, 3))
    clip = clip.astype(np.float32)
    broken = clip.copy()
    broken[0, 1:3, 0] = 0  # two frames of one joint
    broken[0, 4, 1] = 0  # at the end: held
    filled, count = fill_gaps(broken)
    assert count == 3
    np.testing.assert_allclose(filled[0, 1:3, 0], clip[0, 1:3, 0], atol=1e-6)
    np.testing.assert_allclose(filled[0, 4, 1], clip[0, 3, 1], atol=1e-6)


def test_clean_drops_and_counts():
    corpus = tiny_corpus(classes=2, subjects=2, takes=2)
    clips = list(corpus.clips)
    clips[0] = np.zeros_like(clips[0])
    clips[1] = clips[1][:, :1]
    clips[2] = clips[5]
    got = clean_corpus(type(corpus)(**{**corpus.__dict__, "clips": tuple(clips)}))
    assert got.clip_ids == tuple(corpus.clip_ids[i] for i in (3, 4, 5, 6, 7))
    assert got.notes["dropped, empty"] == 1
    assert got.notes["dropped, a single frame"] == 1
    assert got.notes["dropped, exact duplicate of another clip"] == 1
    assert "dropped, empty: 1" in got.summary()


def test_kinect_v1_maps_to_v2_by_name():
    clip = np.arange(60, dtype=np.float32).reshape(1, 20, 3)
    got = map_joints(clip, KINECT_V1, KINECT_V2)
    assert got.shape == (1, 25, 3)
    for name in ("head", "left_hand", "right_foot", "left_knee", "right_shoulder"):
        np.testing.assert_array_equal(
            got[0, KINECT_V2.joints.index(name)], clip[0, KINECT_V1.joints.index(name)]
        )
    with pytest.raises(ValueError, match="20, 3"):
        map_joints(got, KINECT_V1, KINECT_V2)
    with pytest.raises(ValueError, match="no mapping of joints from openpose_18"):
        map_joints(np.zeros((1, 18, 3)), OPENPOSE_18, KINECT_V2)


def test_openpose_joints_come_from_joints_of_the_same_name():
    clip = np.arange(75, dtype=np.float32).reshape(1, 25, 3)
    got = map_joints(clip, KINECT_V2, OPENPOSE_18)
    assert got.shape == (1, 18, 3)
    for name in set(OPENPOSE_18.joints) & set(KINECT_V2.joints) - {"neck"}:
        np.testing.assert_array_equal(
            got[0, OPENPOSE_18.joints.index(name)], clip[0, KINECT_V2.joints.index(name)]
        )
    assert len(set(OPENPOSE_18.joints) & set(KINECT_V2.joints)) == 13


@pytest.mark.parametrize("layout", [KINECT_V1, KINECT_V2, OPENPOSE_18])
def test_layouts_are_trees_and_parts_cover_every_joint_once(layout):
    assert len(layout.parents) == layout.num_joints
    assert len(layout.bones) == layout.num_joints - 1
    for joint in range(layout.num_joints):
        steps = 0
        while joint != layout.parents[joint]:
            joint, steps = layout.parents[joint], steps + 1
            assert steps < layout.num_joints
    assert sorted(j for part in layout.parts.values() for j in part) == list(
        range(layout.num_joints)
    )
    assert list(layout.parts) == ["head", "hands", "torso", "legs"]
