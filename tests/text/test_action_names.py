"""Names of actions as vectors: sentence, words and sides."""

import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.text.action_names import (
    SIDES,
    TEMPLATE,
    ActionNames,
    side_of,
    sides,
    similarity,
    stems,
    without_sides,
)
from dynapurls_jax.text.encoders import encode_descriptions
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.minilm import MiniLM

NAMES = [
    "wave the right hand",
    "Wave",
    "waving with left hand",
    "sit down",
    "to the",
    "both: left, right",
]


@pytest.fixture(scope="module")
def rows():
    return ActionNames().encode(NAMES)


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Left arm up", "left"),
        ("swipe to the RIGHT", "right"),
        ("from left to right", "neutral"),
        ("wave both hands", "neutral"),
        ("leftover, upright", "neutral"),
    ],
)
def test_the_side_of_a_text(text, side):
    assert side_of(text) == side


def test_words_are_stems_without_sides():
    assert without_sides("Wave your LEFT  hand") == "wave your hand"
    assert stems("running with the left foot") == stems("run feet") == ["run", "leg"]
    assert stems("throwing, thrown") == ["throw", "thrown"]
    assert stems("to the left") == []


def test_similarity_is_that_of_sentences_and_words(rows):
    sentences = MiniLM().encode([TEMPLATE.format(n) for n in ("wave the hand", "wave", "sit down")])
    found = np.asarray(similarity(jnp.asarray(rows), jnp.asarray(rows)))
    # wave hand, wave: one of two words is shared.
    expected = 0.7 * sentences[0] @ sentences[1] + 0.3 * 2**-0.5
    assert found[0, 1] == pytest.approx(expected, abs=1e-4)
    assert found[1, 3] == pytest.approx(0.7 * sentences[1] @ sentences[2], abs=1e-4)
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-5)


def test_sides_are_read_from_scaled_and_averaged_rows(rows):
    expected = np.eye(3)[[SIDES.index(side_of(name)) for name in NAMES]]
    np.testing.assert_allclose(sides(3 * jnp.asarray(rows)), expected, atol=1e-6)
    both = sides(jnp.asarray(rows[:1] + rows[2:3]))
    np.testing.assert_allclose(both, [[0.5, 0, 0.5]], atol=1e-6)


def test_rows_have_unit_length_and_do_not_depend_on_others(rows):
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(ActionNames().encode(NAMES[3:4]), rows[3:4], atol=1e-5)


def test_encoded_descriptions_equal_the_rows(rows):
    texts = [[[name]] * len(GRANULARITIES) for name in NAMES]
    found = encode_descriptions(texts, ActionNames())[:, 0]
    np.testing.assert_allclose(found, rows, atol=1e-5)
