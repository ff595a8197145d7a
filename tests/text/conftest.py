"""Fixtures of the text tests."""

import pytest

from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.minilm import MiniLM

NAMES = ("wave", "kick a ball")


@pytest.fixture(scope="session")
def minilm() -> MiniLM:
    """One encoder for all tests, so that its weights and programs are loaded once."""
    return MiniLM()


@pytest.fixture
def texts() -> dict[str, dict[str, str]]:
    """Descriptions of the classes `NAMES`, without errors."""
    return {name: {g: f"{name} with the {g}" for g in GRANULARITIES} for name in NAMES}
