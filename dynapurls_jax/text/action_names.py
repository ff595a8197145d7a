"""Names of actions as vectors: the sentence, its words, and the sides of the body that it names.

A row has three parts side by side:

    sqrt(0.7) * sentence [384], sqrt(0.3) * words [512], side [3]

The sentence vector is MiniLM's of the name without its sides, in a template. Words are hashed
stems. Side is one of left, neutral and right. The dot product of two rows without their sides is
0.7 * cosine of sentences + 0.3 * cosine of words; `similarity` and `sides` take rows, which may be
scaled or averaged. Sides are a separate part because sentence encoders hardly distinguish left and
right, which are mirror images as motions.
"""

import re

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.feature_extraction.text import HashingVectorizer

from dynapurls_jax.registry import Entry
from dynapurls_jax.text.minilm import MiniLM
from dynapurls_jax.text.settings import TextSettings

TEMPLATE = "a person performs: {}"
WORDS_SHARE = 0.3
SIDES = ("left", "neutral", "right")
WORDS = 512  # hashed
VERSION = 1  # of everything here; part of the digest

# Words without information on the motion.
_STOP = frozenset(
    """a an the of with and to in on at your his her their one from for it is do then by into
    something someone somebody person people while other like as you can imaginary front""".split()  # noqa: SIM905
)
_ENDINGS = ("ing", "ed", "es", "s")
_SAME = {
    "arm": "hand",
    "foot": "leg",
    "feet": "leg",
    "lift": "rais",
    "jogg": "jog",
    "grab": "grasp",
}


class ActionNames:
    """The encoder; rows have unit length."""

    def __init__(self) -> None:
        """Finds the weights of MiniLM.

        Raises:
          ModuleNotFoundError: they are not installed; the message has the command.
        """
        self._sentences = MiniLM()
        self._words = HashingVectorizer(n_features=WORDS, analyzer=stems, norm="l2")
        self.digest = f"{self._sentences.digest}-names{VERSION}"

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, 899]` float32; the words of a text of stop words only are zeros."""
        sentences = self._sentences.encode([TEMPLATE.format(without_sides(t)) for t in texts])
        words = self._words.transform(texts).toarray()
        side = np.eye(len(SIDES))[[SIDES.index(side_of(text)) for text in texts]]
        parts = [(1 - WORDS_SHARE) ** 0.5 * sentences, WORDS_SHARE**0.5 * words, side]
        rows = np.concatenate(parts, axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def side_of(text: str) -> str:
    """The side in `SIDES` of a text; neutral if it names both sides or none."""
    named = set(re.findall(r"\b(left|right)\b", text.lower()))
    return named.pop() if len(named) == 1 else "neutral"


def without_sides(text: str) -> str:
    """A text in lower case without the words left and right."""
    return " ".join(re.sub(r"\b(left|right)\b", " ", text.lower()).split())


def stems(text: str) -> list[str]:
    """Stems of the words with information on the motion, without sides."""
    words = re.findall("[a-z]+", without_sides(text))
    found = [_stem(word) for word in words if word not in _STOP]
    return [_SAME.get(stem, stem) for stem in found]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]  # running, run
            break
    return word.rstrip("e") if len(word) > 3 else word


def similarity(rows: Float[Array, "N d"], others: Float[Array, "M d"]) -> Float[Array, "N M"]:
    """Cosine similarity of names without their sides."""
    meaning, other = (_unit(x[:, : -len(SIDES)]) for x in (rows, others))
    return meaning @ other.T


def sides(rows: Float[Array, "N d"]) -> Float[Array, "N 3"]:
    """Weights of `SIDES` in each row, with the sum 1."""
    named = jnp.maximum(rows[:, -len(SIDES) :], 0)
    return named / jnp.maximum(named.sum(axis=1, keepdims=True), 1e-6)


def _unit(x: Float[Array, "N d"]) -> Float[Array, "N d"]:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-6)


ENTRY = Entry(
    make=lambda settings: ActionNames(),
    settings=TextSettings,
    description="Names of actions: MiniLM, hashed words, and the side of the body",
)
