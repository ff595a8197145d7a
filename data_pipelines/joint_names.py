"""Maps joint names of Kinects, pose estimators, motion capture and BVH files to body points.

There are two naming conventions. Names are those of joints (shoulder, elbow, wrist), or of bones
(upper arm, forearm, hand). The position of a bone is its start, the joint nearer to the trunk; in
ASF motion capture files (clavicle, humerus, radius) it is usually its end.
"""

import re
from collections.abc import Sequence

Weights = dict[str, float]  # weight of each source joint; the sum is 1
SIDES = ("left", "right")

_PREFIXES = {"joint", "mixamorig", "bip", "bip01", "bip001", "j", "def", "skeleton", "b"}
_SIDE_WORDS = {"left": "left", "l": "left", "right": "right", "r": "right"}
_VERTEBRA = re.compile(r"[lt]\d{1,2}")  # L5, T12 of Xsens; the letter is not a side

_HIP_CENTER = (
    "hipcenter", "hipcentre", "midhip", "pelvis", "hips", "hip", "spinebase", "root",
)  # fmt: skip
_SHOULDER_CENTER = (
    "shouldercenter", "shouldercentre", "spineshoulder", "midshoulder", "neckbase", "neck",
    "neck0", "neck1", "thorax", "lowerneck",
)  # fmt: skip
_SPINE = ("spinemid", "midspine", "spinenavel", "torso")  # the first found is the spine
_TRUNK = (  # otherwise the mean of these
    *("spine", *(f"spine{number}" for number in range(6)), "ab", "abs", "abdomen", "belly"),
    *("lowerback", "upperback", "chest", "chest1", "chest2", "chest3", "chest4", "spinechest"),
    *("l5", "l3", "l1", "t12", "t10", "t8"),
)
_HEAD_TOP = ("headtop", "topofhead", "headend", "headtopend", "headnub", "headsite", "vertex")
_JOINTS = {  # names of joints
    "shoulder": ("shoulder",),
    "elbow": ("elbow",),
    "wrist": ("wrist",),
    "hand": ("hand", "palm"),
    "hip": ("hip",),
    "knee": ("knee",),
    "ankle": ("ankle",),
}
_ARM_BONES = {  # names of bones, by their start
    "shoulder": ("upperarm", "uparm", "arm", "humerus"),
    "elbow": ("forearm", "lowerarm", "lowarm", "loarm", "radius"),
    "wrist": ("hand", "wrist"),
    "hand": ("handend", "palm"),
}
_LEG_BONES = {
    "hip": ("upleg", "upperleg", "thigh", "femur"),
    "knee": ("leg", "lowerleg", "lowleg", "loleg", "shin", "calf", "tibia"),
    "ankle": ("foot", "ankle"),
}
_ASF_BONES = {  # by their end
    "shoulder": ("clavicle",),
    "elbow": ("humerus",),
    "wrist": ("radius",),
    "hand": ("hand",),
    "hip": ("hipjoint",),
    "knee": ("femur",),
    "ankle": ("tibia",),
    "foot": ("foot",),
}
_KNUCKLES = ("indexknuckle", "pinkyknuckle", "middle1", "handmiddle1", "handindex1", "handbase")
_FINGERS = (
    *("fingers", "finger", "fingerbase", "finger0", "handtip", "handend", "wristend", "index1"),
    *("index", "pinky", "thumb"),
)
_TOE_BASES = ("toebase", "toe0", "toes", "toe", "ball")
_TOE_TIPS = ("bigtoe", "footindex", "toetip", "toeend", "footend", "ankleend", "toesend")


def split_name(name: str) -> tuple[str, str]:
    """Side ("left", "right" or "") and the rest of a joint name, lower case without separators.

    `LeftUpLeg`, `l_up_leg`, `UpLeg.L` and `mixamorig:LeftUpLeg` are ("left", "upleg").
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name.rpartition(":")[2])
    words = [word.lower() for word in words]
    while len(words) > 1 and words[0] in _PREFIXES:
        words = words[1:]
        if words[0].isdecimal() and len(words) > 1:  # the number of Bip01
            words = words[1:]
    rest = "".join(words)
    if _VERTEBRA.fullmatch(rest):
        return "", rest
    for word in words:
        if word in _SIDE_WORDS and len(words) > 1:
            words.remove(word)
            return _SIDE_WORDS[word], "".join(words)
    if rest[:1] in _SIDE_WORDS and rest[1:] in _SIDED:  # lhumerus
        return _SIDE_WORDS[rest[0]], rest[1:]
    for word in ("left", "right"):  # leftshoulder
        if rest.startswith(word) and rest[len(word) :] in _SIDED:
            return word, rest[len(word) :]
    return "", rest


def body_points(names: Sequence[str], asf_ends: bool = True) -> dict[str, Weights]:
    """The body points that the joints define.

    Args:
      names: names of the joints.
      asf_ends: whether the positions of bones with ASF names (humerus) are their ends; False for
        BVH files.

    Returns:
      Weights of the joints for each point. Points are the joints of `KINECT_V1`, and `nose`,
      `fingers`, `toes` and others, from which `layouts` derives missing joints.
    """
    found: dict[tuple[str, str], str] = {}
    for name in names:
        found.setdefault(split_name(name), name)
    points = _trunk_points(found)
    for side in SIDES:
        own = {core: name for (where, core), name in found.items() if where == side}
        for point, weights in _side_points(own, asf_ends).items():
            points[f"{side}_{point}"] = weights
    return points


def _trunk_points(found: dict[tuple[str, str], str]) -> dict[str, Weights]:
    middle = {core: name for (side, core), name in found.items() if not side}
    points = {}
    for point, cores in (
        ("hip_center", _HIP_CENTER),
        ("shoulder_center", _SHOULDER_CENTER),
        ("spine", _SPINE),
        ("nose", ("nose",)),
        ("head_top", _HEAD_TOP),
        ("head_base", ("headbase", "upperneck")),
    ):
        if name := _first(middle, cores):
            points[point] = {name: 1.0}
    trunk = [middle[core] for core in _TRUNK if core in middle]
    if "spine" not in points and trunk:
        points["spine"] = {name: 1 / len(trunk) for name in trunk}
    if head := middle.get("head"):
        points["head"] = _head_center(head, middle, points, found)
    return points


def _head_center(
    head: str, middle: dict[str, str], points: dict[str, Weights], found: dict
) -> Weights:
    """Weights of the centre of the head: `head` may be its base (start of a bone) or its top."""
    if "head_top" in points:
        return {head: 0.5} | dict.fromkeys(points["head_top"], 0.5)
    if "upperneck" in middle:
        return {head: 0.5, middle["upperneck"]: 0.5}
    cores = {core for side, core in found if side}
    if cores & {*_ARM_BONES["elbow"], *_LEG_BONES["hip"]} and "neck" in middle:
        return {head: 2.0, middle["neck"]: -1.0}
    return {head: 1.0}


def _side_points(own: dict[str, str], asf_ends: bool) -> dict[str, Weights]:
    """Points of one side; `own` maps names without their side to full names."""
    if asf_ends and "humerus" in own and "femur" in own:
        chosen = {point: _first(own, cores) for point, cores in _ASF_BONES.items()}
    else:
        arm_bones = _first(own, _ARM_BONES["elbow"]) is not None
        leg_bones = _first(own, _LEG_BONES["hip"]) is not None
        arm = _ARM_BONES if arm_bones else {key: _JOINTS[key] for key in _ARM_BONES}
        leg = _LEG_BONES if leg_bones else {key: _JOINTS[key] for key in _LEG_BONES}
        chosen = {point: _first(own, cores) for point, cores in (arm | leg).items()}
        chosen["foot"] = _foot(own, chosen)
    points = {point: {name: 1.0} for point, name in chosen.items() if name}
    for point in ("eye", "ear"):
        if point in own:
            points[point] = {own[point]: 1.0}
    knuckles = [own[core] for core in _KNUCKLES if core in own]
    if knuckles:
        points.setdefault("hand", {name: 1 / len(knuckles) for name in knuckles})
    for point, cores in (("fingers", _FINGERS), ("toes", _TOE_TIPS)):
        if name := _first(own, cores):
            points[point] = {name: 1.0}
    return points


def _foot(own: dict[str, str], chosen: dict[str, str | None]) -> str | None:
    """The joint at the ball of the foot; with toes but no ankle, `foot` is the ankle."""
    foot = own.get("foot")
    toes = _first(own, _TOE_BASES)
    if chosen["ankle"] is None and foot and toes:
        chosen["ankle"] = foot
    if foot and foot != chosen["ankle"]:
        return foot
    return toes


def _first(own: dict[str, str], cores: Sequence[str]) -> str | None:
    return next((own[core] for core in cores if core in own), None)


_SIDED = {
    *(core for cores in _JOINTS.values() for core in cores),
    *(core for cores in _ARM_BONES.values() for core in cores),
    *(core for cores in _LEG_BONES.values() for core in cores),
    *(core for cores in _ASF_BONES.values() for core in cores),
    *_FINGERS, *_TOE_BASES, *_TOE_TIPS, "eye", "ear", "heel", "collar", "foot",
}  # fmt: skip
