"""Zero-shot skeleton action recognition with test-time refinement, in JAX and Flax.

model = dynapurls_jax.load_pretrained()
model.predict(clip, ["wave", "sit down"], skeleton="kinect_v2").label
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load_pretrained`, which is loaded on first use: `--help` of a command needs no jax."""
    if name == "load_pretrained":
        from dynapurls_jax.serving.pretrained import load_pretrained

        return load_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
