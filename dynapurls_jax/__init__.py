"""Zero-shot skeleton action recognition with test-time refinement, in JAX and Flax.

model = dynapurls_jax.load_pretrained()
model.predict(clip, ["wave", "sit down"], skeleton="kinect_v2").label
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynapurls_jax.serving.pretrained import load_pretrained, pretrained_names
    from dynapurls_jax.serving.recogniser import ActionStream, Recogniser
    from dynapurls_jax.serving.recognition import Recognition

__version__ = "0.2.0"
__all__ = ["ActionStream", "Recogniser", "Recognition", "load_pretrained", "pretrained_names"]

_MODULES = {
    "ActionStream": "recogniser",
    "Recogniser": "recogniser",
    "Recognition": "recognition",
    "load_pretrained": "pretrained",
    "pretrained_names": "pretrained",
}


def __getattr__(name: str) -> Any:
    """The names of `__all__`, imported on first use: `--help` of a command needs no jax."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"dynapurls_jax.serving.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
