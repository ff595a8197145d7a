"""Skeleton clips: readers of many formats, datasets, protocols and preprocessing.

for clip in data_pipelines.load_clips("my_clips"):
    ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipelines.clip_files import Clip, clip_from_array, load_clips
    from data_pipelines.conventions import Declared
    from data_pipelines.datasets import load_corpus

__all__ = ["Clip", "Declared", "clip_from_array", "load_clips", "load_corpus"]

_MODULES = {
    "Clip": "clip_files",
    "Declared": "conventions",
    "clip_from_array": "clip_files",
    "load_clips": "clip_files",
    "load_corpus": "datasets",
}


def __getattr__(name: str) -> Any:
    """The names of `__all__`, imported on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"data_pipelines.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
