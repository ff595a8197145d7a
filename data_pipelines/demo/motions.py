"""The library of part motions: joint angles over time, and wordings."""

from dataclasses import dataclass
from importlib import resources

import numpy as np
import yaml


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


def library() -> dict[str, list[Motion]]:
    """Part (arm, torso, legs, head) to its motions, of `motions.yaml`."""
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
