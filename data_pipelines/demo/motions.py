"""The library of part motions: joint angles over time, and wordings."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One joint angle (radians) or displacement (metres) while its motion is on.

    `hold + swing * sin(2 pi (cycles u + phase))` for progress u in [0, 1], cut at 0 if `positive`.
    """

    hold: float = 0.0
    swing: float = 0.0
    cycles: float = 1.0
    phase: float = 0.0
    positive: bool = False

    def __call__(self, progress: np.ndarray) -> np.ndarray:
        """Values at each progress, both `[T]`."""
        wave = self.hold + self.swing * np.sin(2 * np.pi * (self.cycles * progress + self.phase))
        return np.maximum(wave, 0) if self.positive else wave


@dataclass(frozen=True)
class Motion:
    """A motion of one body part.

    Attributes:
      name: unique within its part.
      verb: for class names ("wave").
      wordings: third person; `{side}` is left or right for arms.
      curves: degree of freedom to curve. Arms write `shoulder`/`elbow` without a side.
    """

    name: str
    verb: str
    wordings: tuple[str, ...]
    curves: dict[str, Curve]


def _library(*motions: Motion) -> dict[str, Motion]:
    return {motion.name: motion for motion in motions}


ARM = _library(
    Motion(
        "reach",
        "reach forward",
        (
            "the {side} arm reaches straight forward at shoulder height",
            "the {side} hand stretches out to the front of the chest",
            "extends the {side} arm forward, level with the shoulder",
        ),
        {"shoulder.flex": Curve(hold=1.5)},
    ),
    Motion(
        "raise",
        "raise overhead",
        (
            "the {side} arm rises straight up overhead",
            "lifts the {side} hand high above the head",
            "the {side} hand goes up overhead with a straight arm",
        ),
        {"shoulder.flex": Curve(hold=2.9)},
    ),
    Motion(
        "spread",
        "spread sideways",
        (
            "the {side} arm spreads out sideways to shoulder height",
            "opens the {side} arm to the side, level with the shoulder",
            "the {side} hand moves sideways away from the body with a straight arm",
        ),
        {"shoulder.abduct": Curve(hold=1.5)},
    ),
    Motion(
        "wave",
        "wave",
        (
            "the {side} hand waves from side to side next to the head",
            "waves the raised {side} forearm left and right several times",
            "the {side} forearm points up and the hand waves back and forth",
        ),
        {
            "shoulder.abduct": Curve(hold=1.3),
            "elbow.sway": Curve(hold=1.4, swing=0.6, cycles=4),
        },
    ),
    Motion(
        "punch",
        "punch",
        (
            "the {side} fist punches forward again and again",
            "throws repeated straight punches with the {side} arm",
            "the {side} arm thrusts forward quickly and pulls back, punching",
        ),
        {
            "shoulder.flex": Curve(hold=1.1, swing=0.4, cycles=3, phase=0.75),
            "elbow.bend": Curve(hold=1.1, swing=1.1, cycles=3, phase=0.25),
        },
    ),
    Motion(
        "circle",
        "draw circles",
        (
            "the {side} hand draws large circles in front of the body",
            "the straight {side} arm circles around in the air",
            "makes round circling movements with the {side} hand in front",
        ),
        {
            "shoulder.flex": Curve(hold=1.4, swing=0.6, cycles=2),
            "shoulder.abduct": Curve(hold=0.1, swing=0.6, cycles=2, phase=0.25),
        },
    ),
    Motion(
        "curl",
        "curl",
        (
            "the {side} elbow bends and straightens, curling the hand to the shoulder",
            "curls the {side} forearm up and down next to the body",
            "the {side} hand curls up to the shoulder and down again",
        ),
        {"elbow.bend": Curve(hold=1.2, swing=1.1, cycles=3, phase=0.75)},
    ),
    Motion(
        "salute",
        "hand to the head",
        (
            "the {side} hand goes up beside the head with a bent elbow",
            "brings the {side} hand up next to the head and keeps it there",
            "the {side} elbow bends until the hand is beside the head",
        ),
        {"shoulder.abduct": Curve(hold=1.5), "elbow.sway": Curve(hold=2.2)},
    ),
)

TORSO = _library(
    Motion(
        "bow",
        "bow",
        (
            "the torso bows deeply forward",
            "bends the upper body forward in a bow",
            "the back bends forward and comes up again, bowing",
        ),
        {"torso.bend": Curve(hold=1.2)},
    ),
    Motion(
        "twist",
        "twist",
        (
            "the torso twists from side to side",
            "turns the upper body left and right, twisting at the waist",
            "the waist twists back and forth",
        ),
        {"torso.twist": Curve(swing=0.9, cycles=2)},
    ),
    Motion(
        "lean_left",
        "lean left",
        (
            "the torso leans over to the left side",
            "bends the upper body sideways to the left",
            "the upper body leans left at the waist",
        ),
        {"torso.lean": Curve(hold=-0.6)},
    ),
    Motion(
        "lean_right",
        "lean right",
        (
            "the torso leans over to the right side",
            "bends the upper body sideways to the right",
            "the upper body leans right at the waist",
        ),
        {"torso.lean": Curve(hold=0.6)},
    ),
)

LEGS = _library(
    Motion(
        "squat",
        "squat",
        (
            "the knees bend deeply into a squat and straighten again",
            "squats down low by bending both knees",
            "lowers the hips in a deep squat with both knees bent",
        ),
        {
            f"{side}_{dof}": Curve(hold=hold)
            for side in ("left", "right")
            for dof, hold in (("hip.flex", 1.4), ("knee.bend", 2.1))
        },
    ),
    Motion(
        "march",
        "march",
        (
            "the knees lift in turn, marching on the spot",
            "marches in place, lifting one knee after the other",
            "the legs step up and down in turn as in marching",
        ),
        {
            f"{side}_{dof}": Curve(swing=swing, cycles=3, phase=phase, positive=True)
            for side, phase in (("left", 0.0), ("right", 0.5))
            for dof, swing in (("hip.flex", 1.2), ("knee.bend", 1.4))
        },
    ),
    Motion(
        "kick_left",
        "kick with the left leg",
        (
            "the left leg kicks forward",
            "kicks the straight left leg to the front",
            "swings the left foot forward in a kick",
        ),
        {"left_hip.flex": Curve(swing=1.3, cycles=1.5, positive=True)},
    ),
    Motion(
        "kick_right",
        "kick with the right leg",
        (
            "the right leg kicks forward",
            "kicks the straight right leg to the front",
            "swings the right foot forward in a kick",
        ),
        {"right_hip.flex": Curve(swing=1.3, cycles=1.5, positive=True)},
    ),
    Motion(
        "jump",
        "jump",
        (
            "both feet leave the floor in repeated jumps",
            "jumps up and down on both legs",
            "the legs push off and the whole body jumps up",
        ),
        {
            "root.rise": Curve(swing=0.35, cycles=3, positive=True),
            **{
                f"{side}_{dof}": Curve(swing=-swing, cycles=3, positive=True)
                for side in ("left", "right")
                for dof, swing in (("hip.flex", 0.5), ("knee.bend", 0.9))
            },
        },
    ),
    Motion(
        "sidestep",
        "step sideways",
        (
            "the feet step sideways to the left and back to the right",
            "steps sideways over the floor and returns",
            "walks sideways with small steps, there and back",
        ),
        {
            "root.side": Curve(swing=-0.5, cycles=1),
            "left_hip.abduct": Curve(swing=0.4, cycles=3, positive=True),
            "right_hip.abduct": Curve(swing=0.4, cycles=3, phase=0.5, positive=True),
        },
    ),
)

HEAD = _library(
    Motion(
        "nod",
        "nod",
        (
            "the head nods up and down",
            "nods the head several times",
            "the chin moves down and up, nodding",
        ),
        {"head.bend": Curve(hold=0.3, swing=0.5, cycles=3)},
    ),
    Motion(
        "tilt",
        "tilt the head",
        (
            "the head tilts from shoulder to shoulder",
            "tilts the head to one side and the other",
            "the ear moves towards the shoulder as the head tilts",
        ),
        {"head.lean": Curve(swing=0.7, cycles=2)},
    ),
)
