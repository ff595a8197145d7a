"""Motion sketches: the motion of a class as waypoints of hands, feet, hips and trunk.

A sketch is part of a class's description and, like the texts, written from the class name. Each
part has a sequence of waypoints from the start of the clip to its end, for example

    {"right hand": "hang > chest out > chest front > chest across > hang"}

`(a > b)*3` repeats. `animation.animate` converts a sketch to joints.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from data_pipelines.errors import DataError

# Metres, for a person whose hips are 0.875 m above the floor and whose spine is 0.5 m long.
HEIGHT = {
    "floor": -0.8,
    "shin": -0.6,
    "knee": -0.4,
    "thigh": -0.175,
    "hip": 0.0,
    "waist": 0.125,
    "belly": 0.15,
    "chest": 0.35,
    "shoulder": 0.49,
    "face": 0.65,
    "head": 0.75,
    "overhead": 0.975,
    "top": 1.05,
}
# A hand's distance to its own side, and forward.
HAND_SIDE = {"out": 0.475, "aside": 0.3, "middle": 0.025, "across": -0.15}
HAND_DEPTH = {"front": 0.475, "ahead": 0.325, "near": 0.175, "back": -0.15, "behind": -0.275}
_HAND_SIDE, _HAND_DEPTH, _DEPTH_OUT = 0.15, 0.2, 0.025  # defaults
# A foot's height above the floor, distance to its own side, and forward.
FOOT_HEIGHT = {"ground": 0.0, "lifted": 0.125, "shin": 0.25, "knee": 0.425, "hip": 0.7}
FOOT_SIDE = {"apart": 0.225, "wide": 0.375, "aside": 0.55}
FOOT_DEPTH = {"front": 0.3, "ahead": 0.5, "back": -0.25, "behind": -0.45}
_FOOT_SIDE = 0.1
# Position of the hips: forward and up.
HIPS = {
    "stand": (0.0, 0.0),
    "dip": (0.0, -0.1),
    "crouch": (-0.1, -0.275),
    "low": (-0.1, -0.4),
    "sit": (-0.375, -0.425),
    "hop": (0.0, 0.075),
    "jump": (0.0, 0.225),
    "high jump": (0.0, 0.35),
}
# Orientation of the trunk: lean forward, lean to the right and turn to the left, radians.
TORSO = {
    "upright": (0.0, 0.0, 0.0),
    "lean": (0.35, 0.0, 0.0),
    "bend": (0.9, 0.0, 0.0),
    "fold": (1.3, 0.0, 0.0),
    "back": (-0.25, 0.0, 0.0),
    "tilt right": (0.0, 0.15, 0.0),
    "tilt left": (0.0, -0.15, 0.0),
    "lean right": (0.0, 0.4, 0.0),
    "lean left": (0.0, -0.4, 0.0),
    "turn right": (0.0, 0.0, -0.3),
    "turn left": (0.0, 0.0, 0.3),
    "twist right": (0.0, 0.0, -0.6),
    "twist left": (0.0, 0.0, 0.6),
    "lean and turn right": (0.35, 0.0, -0.35),
    "lean and turn left": (0.35, 0.0, 0.35),
}
_TRUNK: dict[str, Mapping[str, tuple[float, ...]]] = {"hips": HIPS, "torso": TORSO}
_FARTHEST = 20  # maximum travel, metres
HANG, ON_HIPS = "hang", "on hips"  # waypoints of hands that follow the shoulder or the hips
REST = {"hand": HANG, "foot": "ground", "hips": "stand", "torso": "upright", "travel": "0 0"}
PARTS = ("right hand", "left hand", "right foot", "left foot", "hips", "torso", "travel")
_BOTH = {
    "both hands": ("right hand", "left hand"),
    "both feet": ("right foot", "left foot"),
}

Sketch = dict[str, list[str]]  # waypoints of each part of PARTS


def parse_sketch(record: object, name: str, source: object) -> Sketch:
    """Parses a sketch; missing parts get the waypoint `REST`.

    Args:
      record: waypoints of each part, such as `{"both hands": "hang > chest front > hang"}`.
      name: name of the class, for errors.

    Raises:
      DataError: a part or waypoint is unknown; the message has the known ones.
    """

    def fail(message: str) -> DataError:
        return DataError(f"sketch of class {name!r}: {message}", source)

    if not isinstance(record, Mapping) or not record:
        raise fail(f"expected an object from parts to waypoints, got {record!r}")
    sketch: Sketch = {part: [REST[part.split()[-1]]] for part in PARTS}
    given: set[str] = set()
    for key, row in record.items():
        if key not in (*PARTS, *_BOTH):
            raise fail(f"expected parts from {', '.join((*PARTS, *_BOTH))}, got {key!r}")
        for part in _BOTH.get(key, (key,)):
            if part in given:
                raise fail(f"expected waypoints of {part!r} once, got them twice")
            given.add(part)
            try:
                sketch[part] = _waypoints(row)
                for waypoint in sketch[part]:
                    position_of(part)(waypoint)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                known, rest = " ".join(_vocabulary(part)), REST[part.split()[-1]]
                raise fail(
                    f"{key}: expected waypoints such as {rest!r}, joined by ' > ' and repeated as "
                    f"in '(a > b)*3', of the words {known}; got {row!r}"
                ) from error
    return sketch


def _waypoints(row: str) -> list[str]:
    repeated = re.sub(
        r"\(([^()]*)\)\*([1-9])", lambda found: " > ".join([found[1]] * int(found[2])), row
    )
    waypoints = [" ".join(waypoint.split()) for waypoint in repeated.split(">")]
    if not all(waypoints):
        raise ValueError("an empty waypoint")
    return waypoints


def _vocabulary(part: str) -> list[str]:
    if part.endswith("hand"):
        return [HANG, f"({ON_HIPS})", *HEIGHT, *HAND_SIDE, *HAND_DEPTH]
    if part.endswith("foot"):
        return [*FOOT_HEIGHT, *FOOT_SIDE, *FOOT_DEPTH]
    if part == "travel":
        return ["(metres to the right, metres forward)"]
    return [f"({name})" for name in _TRUNK[part]]


def position_of(part: str) -> Callable[[str], Float[np.ndarray, " k"]]:
    """The function from a waypoint of a part to its position or angles, in metres or radians.

    Hands `[3]`: x to the person's right, y forward, z up, relative to the standing hips. Feet
    `[3]`: relative to the floor below the hips. Hips `[2]`: forward and up. Torso `[3]`: angles,
    see `TORSO`. Travel `[2]`: to the right and forward.
    """
    side = -1.0 if part.startswith("left") else 1.0
    if part.endswith("hand"):
        return lambda waypoint: _hand(waypoint, side)
    if part.endswith("foot"):
        return lambda waypoint: _foot(waypoint, side)
    if part == "travel":
        return _travel
    return lambda waypoint: np.array(_TRUNK[part][waypoint])


def _travel(waypoint: str) -> Float[np.ndarray, "2"]:
    right, forward = map(float, waypoint.split())
    if not (abs(right) <= _FARTHEST and abs(forward) <= _FARTHEST):
        raise ValueError(f"more than {_FARTHEST} m away")
    return np.array([right, forward])


def _hand(waypoint: str, side: float) -> Float[np.ndarray, "3"]:
    if waypoint in (HANG, ON_HIPS):
        return np.zeros(3)  # replaced by the animation
    height, aside, depth = _words(waypoint, HEIGHT, HAND_SIDE, HAND_DEPTH)
    aside = _HAND_SIDE if aside is None else aside
    if depth is None:
        depth = _DEPTH_OUT if aside > 0.4 else _HAND_DEPTH
    return np.array([side * aside, depth, height])


def _foot(waypoint: str, side: float) -> Float[np.ndarray, "3"]:
    height, aside, depth = _words(waypoint, FOOT_HEIGHT, FOOT_SIDE, FOOT_DEPTH)
    return np.array([side * (_FOOT_SIDE if aside is None else aside), depth or 0.0, height or 0.0])


def _words(waypoint: str, *tables: dict[str, float]) -> list[float | None]:
    """The value of the waypoint in each table; None for a table without one of its words.

    Raises:
      ValueError: a word is unknown, or two words are from one table.
    """
    found: list[float | None] = [None] * len(tables)
    for word in waypoint.split():
        [number] = (n for n, table in enumerate(tables) if word in table)
        if found[number] is not None:
            raise ValueError(f"{waypoint!r}: two words from one table")
        found[number] = tables[number][word]
    if tables[0] is HEIGHT and found[0] is None:
        raise ValueError(f"{waypoint!r}: no height")
    return found
