"""The classes of the demo corpus: combinations of part motions.

Unseen classes combine part motions of seen classes.
"""

import itertools
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from data_pipelines.demo.motions import Motion, library

PHASES = {"start": (0.0, 0.4), "middle": (0.3, 0.7), "end": (0.6, 1.0), "all": (0.0, 1.0)}
NUM_CLASSES = 48
PARTNER_EVERY = 8


@dataclass(frozen=True)
class Component:
    """The motion of one body part, and its phase."""

    part: str  # head, left_arm, right_arm, torso, legs
    motion: Motion
    phase: str


@dataclass(frozen=True)
class Recipe:
    """A class: motions of body parts; with a partner, a second person performs the same."""

    components: tuple[Component, ...]
    partner: bool

    @property
    def name(self) -> str:
        """A short label, unique among the recipes."""
        words = []
        arms = [c for c in self.components if c.part.endswith("arm")]
        if len(arms) == 2 and arms[0].motion is arms[1].motion:
            words.append((arms[0].phase, f"{arms[0].motion.verb} with both arms"))
        else:
            words += [
                (c.phase, f"{c.motion.verb} with the {c.part.replace('_', ' ')}") for c in arms
            ]
        words += [(c.phase, c.motion.verb) for c in self.components if not c.part.endswith("arm")]
        order = list(PHASES)
        joined = ", then " if any(phase != "all" for phase, _ in words) else " and "
        text = joined.join(word for _, word in sorted(words, key=lambda w: order.index(w[0])))
        return f"{text} with a partner" if self.partner else text


def _arm_sets(motions):
    """One arm or both with the same motion."""
    for motion in motions:
        yield (("right_arm", motion),)
        yield (("left_arm", motion),)
        yield (("left_arm", motion), ("right_arm", motion))


@cache
def demo_recipes() -> tuple[Recipe, ...]:
    """The 48 classes: an arm motion and another body motion, simultaneous or in sequence.

    The choice does not depend on the corpus seed. The least used part motions are chosen first, so
    that several classes share each of them.
    """
    motions = library()
    others = [(part, motion) for part in ("torso", "legs", "head") for motion in motions[part]]
    pairs = list(itertools.product(_arm_sets(motions["arm"]), others))
    rng = np.random.default_rng(2024)
    rng.shuffle(pairs)
    used: Counter[str] = Counter()  # classes of each part motion
    recipes: list[Recipe] = []
    while len(recipes) < NUM_CLASSES:
        arms, other = min(pairs, key=lambda pair: np.mean([used[key] for key in _keys(*pair)]))
        pairs.remove((arms, other))
        used.update(_keys(arms, other))
        first, second = [("all", "all"), ("start", "end"), ("end", "start")][len(recipes) % 3]
        components = (*(Component(p, m, first) for p, m in arms), Component(*other, second))
        recipes.append(
            Recipe(components, partner=len(recipes) % PARTNER_EVERY == PARTNER_EVERY - 1)
        )
    return tuple(recipes)


def _keys(arms, other):
    return [f"{part}:{motion.name}" for part, motion in (*arms, other)]
