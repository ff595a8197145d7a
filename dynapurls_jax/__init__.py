"""Zero-shot skeleton action recognition with test-time refinement, in JAX and Flax."""

__version__ = "0.1.0"
