"""The demo corpus is what it says: deterministic, recombining, and honest about itself."""

import numpy as np

from data_pipelines.datasets import load_corpus
from data_pipelines.demo.generate import generate_demo
from data_pipelines.demo.kinematics import move, rest_offsets
from data_pipelines.demo.recipes import demo_recipes
from data_pipelines.demo.wording import describe
from data_pipelines.protocols import make_protocol
from data_pipelines.skeletons import KINECT_V2


def test_same_seed_same_corpus(demo):
    assert generate_demo(0).digest == demo.digest
    assert generate_demo(1).digest != demo.digest


def test_it_has_what_the_readme_says(demo):
    assert demo.synthetic
    assert "SYNTHETIC" in demo.summary()
    assert len(demo.class_names) == len(set(demo.class_names)) == 48
    assert len(demo) == 48 * 10 * 2
    persons = np.array([np.any(clip != 0, axis=(1, 2, 3)).sum() for clip in demo.clips])
    assert set(persons) == {1, 2}
    lost = sum(int((~np.any(clip[0] != 0, axis=-1)).sum()) for clip in demo.clips)
    assert lost > 0  # dropped joints are there to be filled
    assert load_corpus("demo").notes["untracked joints interpolated (joint-frames)"] >= lost


def test_unseen_classes_recombine_seen_parts(demo):
    recipes = demo_recipes()
    for split in ("random-40_8-0", "random-40_8-1"):
        protocol = make_protocol(demo, split)
        seen = {(c.part, c.motion.name) for i in protocol.seen for c in recipes[i].components}
        for i in protocol.unseen:
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


def test_kinematics_move_the_right_part_the_right_way():
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


def test_bones_keep_their_length(demo):
    offsets = rest_offsets()
    dofs = {"right_shoulder.flex": np.linspace(0, 2, 5), "torso.twist": np.linspace(0, 1, 5)}
    joints = move(offsets, dofs)
    for child, parent in KINECT_V2.bones:
        lengths = np.linalg.norm(joints[:, child] - joints[:, parent], axis=-1)
        np.testing.assert_allclose(lengths, np.linalg.norm(offsets[child]), atol=1e-9)
