"""The library of motions of body parts: joint angles over time, and wordings."""

from dataclasses import dataclass
from importlib import resources

import numpy as np
import yaml


@dataclass(frozen=True)
class Curve:
    """One joint angle (radians) or displacement (metres) during a motion.

    `hold + swing * sin(2 pi (cycles u + phase))` for progress u in [0, 1]; clipped at 0 if
    `positive`.
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
      verb: used in class names ("wave").
      wordings: in the third person; for arms `{side}` stands for left or right.
      curves: curve of each degree of freedom; `shoulder` and `elbow` of arms have no side.
    """

    name: str
    verb: str
    wordings: tuple[str, ...]
    curves: dict[str, Curve]


def library() -> dict[str, list[Motion]]:
    """The motions of each part (arm, torso, legs, head), from `motions.yaml`."""
    text = resources.files("data_pipelines").joinpath("demo/motions.yaml").read_text("utf-8")
    return {
        part: [
            Motion(
                name,
                motion["verb"],
                tuple(motion["wordings"]),
                {dof: Curve(**numbers) for dof, numbers in motion["curves"].items()},
            )
            for name, motion in motions.items()
        ]
        for part, motions in yaml.safe_load(text).items()
    }
