"""The demo corpus: deterministic, with shared part motions, marked as synthetic."""

import numpy as np
import pytest

from data_pipelines import datasets, load_corpus
from data_pipelines.datasets import clean_corpus
from data_pipelines.demo import generate
from data_pipelines.demo.kinematics import move, rest_offsets
from data_pipelines.demo.recipes import demo_recipes
from data_pipelines.demo.wording import describe
from data_pipelines.protocols import unseen_classes
from data_pipelines.settings import DataSettings
from data_pipelines.skeletons import KINECT_V2


@pytest.fixture(scope="module")
def small_demo():
    """`(seed) -> corpus` of two subjects, one take each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "NUM_SUBJECTS", 2)
        patch.setattr(generate, "NUM_TAKES", 1)
        yield generate.generate_demo


def test_same_seed_same_corpus(small_demo):
    first, again, other = (small_demo(seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest


def test_untracked_joints_are_filled(small_demo):
    corpus = small_demo(0)
    lost = sum(int((~np.any(clip[0] != 0, axis=-1)).sum()) for clip in corpus.clips)
    assert lost > 0
    assert clean_corpus(corpus).notes["untracked joints interpolated (joint-frames)"] >= lost


@pytest.mark.slow
def test_the_demo_corpus_has_the_documented_size(demo):
    assert demo.synthetic
    assert "SYNTHETIC" in demo.summary()
    assert len(demo.class_names) == len(set(demo.class_names)) == 48
    assert len(demo) == 48 * 10 * 2
    persons = np.array([np.any(clip != 0, axis=(1, 2, 3)).sum() for clip in demo.clips])
    assert set(persons) == {1, 2}


def test_unseen_classes_recombine_seen_parts(small_demo):
    recipes, corpus = demo_recipes(), small_demo(0)
    for split in ("random-40_8-0", "random-40_8-1"):
        unseen = unseen_classes(corpus, split)
        others = [recipe for i, recipe in enumerate(recipes) if i not in unseen]
        seen = {(c.part, c.motion.name) for recipe in others for c in recipe.components}
        for i in unseen:
            assert {(c.part, c.motion.name) for c in recipes[i].components} <= seen


def test_descriptions_follow_from_the_recipe():
    for number, recipe in enumerate(demo_recipes()):
        texts = describe(recipe, number)
        hands = [c for c in recipe.components if c.part.endswith("arm")]
        for side in ("left", "right"):
            named = f" {side} " in f" {texts['hands'].lower()} "
            used = any(c.part == f"{side}_arm" for c in hands)
            waves = any(c.motion.name == "wave" for c in hands)  # "left and right" in a wave
            assert named == used or waves
        for phase in ("start", "end"):
            active = [c for c in recipe.components if c.phase in (phase, "all")]
            still = texts[phase].startswith(("Stands", "Does not"))
            assert still == (not active)


def test_each_degree_of_freedom_moves_its_part_in_its_direction():
    joint = KINECT_V2.joints.index
    zero = np.zeros(1)
    rest = move(rest_offsets(), {"head.bend": zero})[0]
    assert abs(rest[:, 1].min()) < 1e-9  # stands on the floor
    assert rest[joint("head"), 1] > 1.5
    assert rest[joint("right_hand"), 0] > 0 > rest[joint("left_hand"), 0]
    forward = move(rest_offsets(), {"right_shoulder.flex": zero + 1.5})[0]
    assert forward[joint("right_hand"), 2] < -0.4  # towards the camera
    np.testing.assert_allclose(forward[joint("left_hand")], rest[joint("left_hand")], atol=1e-9)
    wide = move(rest_offsets(), {"left_shoulder.abduct": zero + 1.5})[0]
    assert wide[joint("left_hand"), 0] < -0.5
    bow = move(rest_offsets(), {"torso.bend": zero + 1.2})[0]
    assert bow[joint("head"), 2] < -0.4
    jump = move(rest_offsets(), {"root.rise": zero + 0.3})[0]
    assert jump[:, 1].min() > 0.29
    squat = {
        f"{s}_{d}": zero + a
        for s in ("left", "right")
        for d, a in (("hip.flex", 1.4), ("knee.bend", 2.1))
    }
    assert move(rest_offsets(), squat)[0][joint("head"), 1] < rest[joint("head"), 1] - 0.2


def test_bones_keep_their_length():
    offsets = rest_offsets()
    dofs = {"right_shoulder.flex": np.linspace(0, 2, 5), "torso.twist": np.linspace(0, 1, 5)}
    joints = move(offsets, dofs)
    for child, parent in KINECT_V2.bones:
        lengths = np.linalg.norm(joints[:, child] - joints[:, parent], axis=-1)
        np.testing.assert_allclose(lengths, np.linalg.norm(offsets[child]), atol=1e-9)


def test_a_name_opens_a_dataset_with_the_default_settings(small_demo, monkeypatch):
    monkeypatch.setattr(datasets, "generate_demo", small_demo)
    assert load_corpus("demo").digest == load_corpus(DataSettings("demo")).digest
