"""The structured questions of section 3.2.1, and the strict reading of their answers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

FEWEST_WORDS, MOST_WORDS = 4, 45


@dataclass(frozen=True)
class Question:
    """One question, which asks for several texts in a fixed form.

    Attributes:
      labels: granularity to the words that stand before its text in the answer.
      task: what is asked of an action.
    """

    labels: dict[str, str]
    task: str


QUESTIONS = (
    Question(
        {"global": "Overall"},
        "How does the whole body move, from where to where, how fast and in what order?",
    ),
    Question(
        {
            "head": "Head would",
            "hands": "Hands would",
            "torso": "Torso would",
            "legs": "Legs would",
        },
        "How does each part of the body move while somebody does this?",
    ),
    Question(
        {"start": "1", "middle": "2", "end": "3"},
        "How does the body move in the three phases of it: 1 start, 2 middle, 3 end?",
    ),
)

RULES = (
    "One sentence of 8 to 25 plain words for each line. Say only what a stick figure of joints can "
    "show: which limb moves, from where to where, on which side, how fast, how often. No colours, "
    "feelings or materials. Write the lines below and nothing else."
)


def wording(question: Question, name: str, wanted: Iterable[str]) -> str:
    """The prompt for some of a question's texts.

    Args:
      name: of the action.
      wanted: granularities that are still missing.
    """
    lines = "\n".join(f"{question.labels[granularity]}: ..." for granularity in wanted)
    return f"Action: {name}\n{question.task}\n{RULES}\nUse exactly this format:\n{lines}"


def read_answer(question: Question, answer: str, whole: bool) -> dict[str, str]:
    """The texts in an answer that are as they should be.

    A label that comes twice, a text that is too short or long, or still the dots of the format, is
    as good as missing. Of an answer that was cut off the last line is not believed.

    Args:
      whole: whether the model came to an end by itself.

    Returns:
      Granularity to text.
    """
    labels = "|".join(re.escape(label) for label in question.labels.values())
    # Lists, numbers, bold letters and "Phase" before a number are taken for what they are.
    label = rf"^[\s*#>-]*(?:\d+[.)]\s+\**(?=\D)|phase\s+)?({labels})\s*\**\s*[:.)]\**\s*"
    parts = re.split(label, answer, flags=re.IGNORECASE | re.MULTILINE)
    found = [
        (label.lower(), _clean(text)) for label, text in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if not whole:
        found = found[:-1]
    names = [label for label, _ in found]
    texts = dict(found)
    return {
        granularity: texts[label.lower()]
        for granularity, label in question.labels.items()
        if names.count(label.lower()) == 1 and _is_good(texts[label.lower()])
    }


def _clean(text: str) -> str:
    """The first paragraph on one line, without what markup puts around it."""
    paragraph = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]
    return " ".join(paragraph.split()).strip("*_\"' ")


def _is_good(text: str) -> bool:
    return "..." not in text and FEWEST_WORDS <= len(text.split()) <= MOST_WORDS
