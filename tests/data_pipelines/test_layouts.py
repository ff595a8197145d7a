"""Joint layouts: source joints are mapped by their names, and errors name missing joints."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.formats.bvh import parse_bvh
from data_pipelines.formats.clip_archive import read_archive
from data_pipelines.joint_names import split_name
from data_pipelines.layouts import COMMON, LAYOUTS, layout_of
from tests.helpers.clips import person

OPEN = (
    *("aalto_gait", "bandai1", "bandai2", "cdta", "cmu_part", "deepmimic", "hdm05_part"),
    *("irds_part", "machete", "msrc12", "precog", "uiprmd_vicon"),
)
BVH = ("dab", "zombie", "jumping_jacks_cmu", "wave-left-hand", "dash", "run_aalto")
MIXAMO = (
    *("mixamorig:Hips", "mixamorig:Spine", "mixamorig:Neck", "mixamorig:Head"),
    *(
        f"mixamorig:{side}{bone}"
        for side in ("Left", "Right")
        for bone in ("Shoulder", "Arm", "ForeArm", "Hand", "HandMiddle1", "UpLeg", "Leg", "Foot")
    ),
    *("mixamorig:LeftToeBase", "mixamorig:RightToeBase"),
)
ASF = (
    *("root", "lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head"),
    *(
        f"{side}{bone}"
        for side in "lr"
        for bone in (
            *("hipjoint", "femur", "tibia", "foot", "toes"),
            *("clavicle", "humerus", "radius", "wrist", "hand", "fingers", "thumb"),
        )
    ),
)


def sources(layout) -> dict[str, dict[str, float]]:
    """Common joint to the weights of source joints."""
    return {
        joint: {layout.joints[i]: round(float(row[i]), 3) for i in np.flatnonzero(row)}
        for joint, row in zip(COMMON.joints, layout.weights, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LeftUpLeg", ("left", "upleg")),
        ("mixamorig:RightForeArm", ("right", "forearm")),
        ("UpperArm_L", ("left", "upperarm")),
        ("LHipJoint", ("left", "hipjoint")),
        ("lhumerus", ("left", "humerus")),
        ("rfoot", ("right", "foot")),
        ("r_wrist", ("right", "wrist")),
        ("Bip01 L UpperArm", ("left", "upperarm")),
        ("WRIST_RIGHT", ("right", "wrist")),
        ("shoulder left", ("left", "shoulder")),
        ("leftshoulder", ("left", "shoulder")),
        ("LeftHandThumb1", ("left", "handthumb1")),
        ("Head_end", ("", "headend")),
        ("joint_Root", ("", "root")),
        ("leg", ("", "leg")),
        ("L5", ("", "l5")),
        ("spine", ("", "spine")),
        ("left", ("", "left")),
        ("", ("", "")),
    ],
)
def test_names_are_split_into_side_and_rest(name, expected):
    assert split_name(name) == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_named_layouts_put_each_joint_on_its_side(name):
    joints = LAYOUTS[name]
    layout = layout_of(name, None, len(joints))
    np.testing.assert_allclose(layout.weights.sum(axis=1), 1, atol=1e-6)
    for joint, weights in sources(layout).items():
        side, _, rest = joint.partition("_")
        if side in ("left", "right"):
            assert {split_name(source)[0] for source in weights} == {side}
            assert rest in ("hand", "foot") or list(weights) == [joint]
    assert layout_of(None, joints, len(joints)).weights.tolist() == layout.weights.tolist()


def test_the_common_skeleton_is_mapped_to_itself():
    layout = layout_of("kinect_v1", None, 20)
    np.testing.assert_array_equal(layout.weights, np.eye(20))
    assert not layout.statement


def test_bones_are_mapped_by_their_start():
    found = sources(layout_of(None, MIXAMO, len(MIXAMO)))
    names = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")
    bones = ("Arm", "ForeArm", "Hand", "HandMiddle1", "UpLeg", "Leg", "Foot", "ToeBase")
    for joint, bone in zip(names, bones, strict=True):
        assert found[f"left_{joint}"] == {f"mixamorig:Left{bone}": 1}
        assert found[f"right_{joint}"] == {f"mixamorig:Right{bone}": 1}
    assert found["head"] == {"mixamorig:Head": 2, "mixamorig:Neck": -1}


def test_asf_bones_are_mapped_by_their_end_and_in_bvh_files_by_their_start():
    found = sources(layout_of(None, ASF, len(ASF)))
    joints = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")
    ends = ("clavicle", "humerus", "radius", "hand", "hipjoint", "femur", "tibia", "foot")
    assert [found[f"left_{joint}"] for joint in joints] == [{f"l{bone}": 1} for bone in ends]
    assert found["head"] == {"upperneck": 0.5, "head": 0.5}
    found = sources(layout_of(None, ASF, len(ASF), asf_ends=False))
    joints = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
    starts = ("humerus", "radius", "hand", "femur", "tibia", "foot", "toes")
    assert [found[f"right_{joint}"] for joint in joints] == [{f"r{bone}": 1} for bone in starts]


@pytest.mark.parametrize("name", ["coco_17", "openpose_25", "mediapipe_33", "human36m_17"])
def test_derived_joints_are_near_those_of_a_person(name):
    """A person's joints, and nearby points as another source would estimate them."""
    body = person(3)
    common = dict(zip(COMMON.joints, np.moveaxis(body, 1, 0), strict=True))
    up, front = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    points = common | {
        "neck": common["shoulder_center"],
        "thorax": common["shoulder_center"],
        "mid_hip": common["hip_center"],
        "pelvis": common["hip_center"],
        "nose": common["head"] + 0.1 * front,
        "head_top": common["head"] + 0.1 * up - 0.1 * front,
    }
    for side in ("left", "right"):
        points[f"{side}_ear"] = points[f"{side}_eye"] = common["head"]
        ankle, toes = common[f"{side}_ankle"], common[f"{side}_foot"]
        points[f"{side}_big_toe"] = points[f"{side}_foot_index"] = 2 * toes - ankle
        for knuckle in ("index", "pinky"):
            points[f"{side}_{knuckle}_knuckle"] = common[f"{side}_hand"]
    layout = layout_of(name, None, len(LAYOUTS[name]))
    source = np.stack([points.get(joint, 0 * up + common["head"]) for joint in LAYOUTS[name]], 1)
    distance = np.linalg.norm(layout.to_common(source) - body, axis=-1).max(axis=0)
    far = {joint: at for joint, at in zip(COMMON.joints, distance, strict=True) if at > 0.13}
    # Without toes, the foot is extrapolated from the shin.
    assert far.keys() <= (
        {"left_foot", "right_foot"}
        if "foot_index" not in str(LAYOUTS[name]) and "toe" not in str(LAYOUTS[name])
        else set()
    )
    assert all(at < 0.2 for at in far.values())
    assert set(layout.derived) >= {"head"}
    assert all(joint in layout.statement for joint in layout.derived)


@given(st.integers(0, 10**6), st.sampled_from(sorted(LAYOUTS)))
def test_mapping_commutes_with_motions_and_units(seed, name):
    rng = np.random.default_rng(seed)
    layout = layout_of(name, None, len(LAYOUTS[name]))
    clip = rng.normal(size=(2, 3, len(LAYOUTS[name]), 3))
    turn, shift = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.1, 9), rng.normal(size=3)
    moved = layout.to_common(clip @ turn + shift)
    np.testing.assert_allclose(moved, layout.to_common(clip) @ turn + shift, atol=1e-5)


def test_an_explicit_mapping():
    names = ["nase", "bauch", *(f"p{i}" for i in range(14))]
    limbs = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
    mapping: dict = {f"left_{limb}": f"p{i}" for i, limb in enumerate(limbs)}
    mapping |= {f"right_{limb}": f"p{i + 7}" for i, limb in enumerate(limbs)}
    mapping |= {"head": ["nase", "p0", "p7"], "spine": {"bauch": 0.8, "p0": 0.2}}
    layout = layout_of(mapping, names, len(names))
    found = sources(layout)
    assert found["head"] == {"nase": 0.333, "p0": 0.333, "p7": 0.333}
    assert found["spine"] == {"bauch": 0.8, "p0": 0.2}
    assert found["hip_center"] == {"p3": 0.5, "p10": 0.5}
    assert found["left_hand"] == {"p2": 1.32, "p1": -0.32}
    assert layout.derived[:4] == ("hip_center", "spine", "shoulder_center", "head")
    # By index, for joints without names.
    indices = {joint: i for i, joint in enumerate(COMMON.joints)}
    np.testing.assert_array_equal(layout_of(indices, None, 20).weights, np.eye(20))


@pytest.mark.parametrize(
    ("skeleton", "names", "count", "message"),
    [
        ("kinect", None, 20, "unknown skeleton 'kinect'; did you mean 'kinect_v"),
        ("kinect_v1", None, 25, "skeleton kinect_v1: expected 20 joints, got 25"),
        (
            None,
            None,
            25,
            "expected the skeleton of 25 joints .* --skeleton=kinect_v2 or ntu or openpose_25",
        ),
        (None, None, 7, "expected the skeleton of 7 joints without names; name the joints"),
        (None, ["head", "neck"], 2, "no joint of the file gives hip_center, spine, .* head, neck"),
        (None, COMMON.joints[:-2], 18, "gives right_ankle, right_foot; the joints are hip_center,"),
        ({"hed": "head"}, ["head"], 1, "unknown common joint 'hed'; did you mean 'head'"),
        ({"head": "hed"}, ["head"], 1, "unknown source joint of head 'hed'; did you mean 'head'"),
        ({"head": {"head": 2}}, ["head"], 1, "head: expected weights that add up to 1"),
        ({"head": []}, ["head"], 1, "head: expected weights that add up to 1"),
    ],
)
def test_errors_name_the_joint_that_cannot_be_mapped(skeleton, names, count, message):
    with pytest.raises(ValueError, match=message):
        layout_of(skeleton, names, count)


def test_joints_that_were_never_tracked_are_derived():
    names = COMMON.joints
    absent = (names.index("head"), names.index("left_hand"))
    layout = layout_of(None, names, 20, absent=absent)
    assert layout.derived == ("head", "left_hand")
    assert not layout.weights[:, list(absent)].any()
    with pytest.raises(ValueError, match="gives left_knee"):
        layout_of(None, names, 20, absent=(names.index("left_knee"),))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", OPEN)
def test_open_corpora_map(shared_data, name):
    archive = read_archive(shared_data / "open" / f"{name}.npz")
    names = archive.joint_names
    layout = layout_of(None, names, len(names))
    for joint, weights in sources(layout).items():
        side = joint.partition("_")[0]
        if side in ("left", "right"):
            assert {split_name(source)[0] for source in weights} == {side}
    if name == "cdta":
        assert {"left_wrist", "left_ankle", "hip_center"} <= set(layout.derived)
    if name == "deepmimic":
        assert {"head", "left_hand", "right_foot"} <= set(layout.derived)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", BVH)
def test_bvh_files_map(shared_data, name):
    file = shared_data / "bvh" / f"{name}.bvh"
    bvh = parse_bvh(file.read_bytes(), file)
    layout = layout_of(None, bvh.names, len(bvh.names), asf_ends=False)
    assert set(layout.derived) <= {
        *("spine", "head", "left_hand", "right_hand", "left_foot", "right_foot")
    }
