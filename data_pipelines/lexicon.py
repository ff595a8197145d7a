"""The lexicon: several hundred common actions with their names and motion sketches.

`lexicon.txt` has one action per line: `name | other name :: part: waypoints; part: waypoints`.
Parts are abbreviated (`PARTS`). A line that begins with `~` also defines the mirrored action, with
`left` and `right` swapped in names and sketch. Lines that begin with `#` are comments.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.sketches import Sketch, parse_sketch

FILE = Path(__file__).with_name("lexicon.txt")
PARTS = {
    "R": "right hand",
    "L": "left hand",
    "B": "both hands",
    "RF": "right foot",
    "LF": "left foot",
    "BF": "both feet",
    "H": "hips",
    "T": "torso",
    "V": "travel",
}


@dataclass(frozen=True)
class LexiconEntry:
    """An action.

    Attributes:
      names: one or more synonyms.
      sketch: sketch of the motion.
    """

    names: tuple[str, ...]
    sketch: Sketch


def load_lexicon(file: Path = FILE) -> tuple[LexiconEntry, ...]:
    """All actions in the order of the file; a mirrored action follows its original.

    Raises:
      DataError: a line cannot be read, or two actions have the same first name.
    """
    found: dict[str, LexiconEntry] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        for entry in _entries(line, f"{file}, line {number}"):
            if entry.names[0] in found:
                raise DataError(f"{entry.names[0]!r} is defined twice", f"{file}, line {number}")
            found[entry.names[0]] = entry
    return tuple(found.values())


def mirrored(sketch: Sketch) -> Sketch:
    """The mirrored sketch, with left and right swapped."""
    image = {other_side(part): [other_side(word) for word in row] for part, row in sketch.items()}
    steps = [waypoint.split() for waypoint in sketch["travel"]]
    return image | {"travel": [f"{0.0 - float(right):g} {forward}" for right, forward in steps]}


def other_side(text: str) -> str:
    """The text with the words `left` and `right` swapped."""
    swapped = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda found: swapped[found[1]], text)


def _entries(line: str, where: str) -> list[LexiconEntry]:
    """The action of a line, and the mirrored action if the line begins with `~`."""
    names, separator, parts = line.lstrip("~ ").partition("::")
    titles = tuple(" ".join(name.split()) for name in names.split("|"))
    if not separator or not all(titles):
        raise DataError(f"expected 'name | other name :: part: waypoints', got {line!r}", where)
    record: dict[str, str] = {}
    for part in parts.split(";"):
        key, colon, row = part.strip().partition(":")
        if not colon or key not in PARTS or PARTS[key] in record:
            known = ", ".join(PARTS)
            raise DataError(f"expected each of {known} at most once, got {part!r}", where)
        record[PARTS[key]] = row.strip()
    sketch = parse_sketch(record, titles[0], where)
    entries = [LexiconEntry(titles, sketch)]
    if line.startswith("~"):
        entries.append(LexiconEntry(tuple(map(other_side, titles)), mirrored(sketch)))
    return entries
