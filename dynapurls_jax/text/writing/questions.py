"""The structured questions of section 3.2.1, and strict parsing of their answers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

MIN_WORDS, MAX_WORDS = 4, 45


@dataclass(frozen=True)
class Question:
    """One question, whose answer has several texts in a fixed form.

    Attributes:
      labels: granularity to the words before its text in the answer.
      task: the question about an action.
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


def prompt_of(question: Question, name: str, granularities: Iterable[str]) -> str:
    """The prompt for some of a question's texts.

    Args:
      name: of the action.
      granularities: those of the texts.
    """
    lines = "\n".join(f"{question.labels[granularity]}: ..." for granularity in granularities)
    return f"Action: {name}\n{question.task}\n{RULES}\nUse exactly this format:\n{lines}"


def parse_answer(question: Question, answer: str, finished: bool) -> dict[str, str]:
    """The usable texts of an answer.

    A text is left out if its label occurs twice, if it is too short or too long, or if it still has
    the dots of the prompt. The last text of a truncated answer is left out, too.

    Args:
      finished: False for an answer that was truncated.

    Returns:
      Granularity to text.
    """
    labels = "|".join(re.escape(label) for label in question.labels.values())
    # Accepts list markers, numbers, bold type and "Phase" before a label.
    # Without \s, which would run from each of many empty lines over all that follow.
    label = rf"^[ \t*#>-]*(?:\d+[.)][ \t]+\**(?=\D)|phase +)?({labels}) *\** *[:.)]\**"
    parts = re.split(label, answer, flags=re.IGNORECASE | re.MULTILINE)
    found = [
        (label.lower(), _clean(text)) for label, text in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if not finished:
        found = found[:-1]
    names = [label for label, _ in found]
    texts = dict(found)
    return {
        granularity: texts[label.lower()]
        for granularity, label in question.labels.items()
        if names.count(label.lower()) == 1 and _is_usable(texts[label.lower()])
    }


def _clean(text: str) -> str:
    """The first paragraph on one line, without surrounding markup."""
    paragraph = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]
    return " ".join(paragraph.split()).strip("*_\"' ")


def _is_usable(text: str) -> bool:
    return "..." not in text and MIN_WORDS <= len(text.split()) <= MAX_WORDS
