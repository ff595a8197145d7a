"""Eight descriptions of a recipe, with varied wording."""

import numpy as np

from data_pipelines.demo.recipes import PHASES, Component, Recipe

_STILL = {
    "head": ("the head stays still", "the head does not move", "looks straight ahead"),
    "hands": ("both arms hang relaxed", "the hands rest at the sides", "the arms do not move"),
    "torso": ("the torso stays upright", "the back is straight and still", "the trunk is calm"),
    "legs": ("the legs stand still", "both feet stay on the floor", "stands on straight legs"),
    "phase": ("stands still", "stands upright and waits", "does not move yet or any more"),
}
_PARTNER = (
    "two people face each other",
    "with a partner opposite",
    "together with a second person",
)


def describe(recipe: Recipe, seed: int) -> dict[str, str]:
    """The eight texts of a class: global, four parts, three phases.

    Args:
      recipe: the class.
      seed: seed of the choice among wordings; the content depends on the recipe alone.
    """
    rng = np.random.default_rng((seed, 7))

    def choose(wordings) -> str:
        return str(wordings[rng.integers(len(wordings))])

    def sentence(components, still: str) -> str:
        phrases = [
            choose(c.motion.wordings).format(side=c.part.removesuffix("_arm")) for c in components
        ]
        return _sentence(" and ".join(phrases) if phrases else choose(_STILL[still]))

    def of(*parts: str) -> list[Component]:
        return [c for c in recipe.components if c.part in parts]

    def during(phase: str) -> list[Component]:
        return [c for c in recipe.components if c.phase in (phase, "all")]

    ordered = sorted(recipe.components, key=lambda c: list(PHASES).index(c.phase))
    whole = sentence(ordered, "phase")
    if recipe.partner:
        whole = _sentence(f"{choose(_PARTNER)}, {whole[0].lower()}{whole[1:-1]}")
    return {
        "global": whole,
        "head": sentence(of("head"), "head"),
        "hands": sentence(of("left_arm", "right_arm"), "hands"),
        "torso": sentence(of("torso"), "torso"),
        "legs": sentence(of("legs"), "legs"),
        "start": sentence(during("start"), "phase"),
        "middle": sentence(during("middle"), "phase"),
        "end": sentence(during("end"), "phase"),
    }


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
