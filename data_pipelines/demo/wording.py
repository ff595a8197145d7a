"""Eight descriptions of a recipe, in wording that varies from class to class."""

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
      seed: of the choice among wordings; the content depends on the recipe alone.
    """
    rng = np.random.default_rng((seed, 7))

    def pick(wordings) -> str:
        return str(wordings[rng.integers(len(wordings))])

    def say(components, still: str) -> str:
        phrases = [
            pick(c.motion.wordings).format(side=c.part.removesuffix("_arm")) for c in components
        ]
        return _sentence(" and ".join(phrases) if phrases else pick(_STILL[still]))

    def of(*parts: str) -> list[Component]:
        return [c for c in recipe.components if c.part in parts]

    def during(phase: str) -> list[Component]:
        return [c for c in recipe.components if c.phase in (phase, "all")]

    ordered = sorted(recipe.components, key=lambda c: list(PHASES).index(c.phase))
    whole = say(ordered, "phase")
    if recipe.partner:
        whole = _sentence(f"{pick(_PARTNER)}, {whole[0].lower()}{whole[1:-1]}")
    return {
        "global": whole,
        "head": say(of("head"), "head"),
        "hands": say(of("left_arm", "right_arm"), "hands"),
        "torso": say(of("torso"), "torso"),
        "legs": say(of("legs"), "legs"),
        "start": say(during("start"), "phase"),
        "middle": say(during("middle"), "phase"),
        "end": say(during("end"), "phase"),
    }


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
