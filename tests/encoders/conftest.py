"""Fixtures of the tests of encoders."""

import jax
import pytest


@pytest.fixture
def float64():
    """Float64 in JAX. The context manager has another name in older versions."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
