"""Text vectors of the classes, computed elsewhere and read from an npz file."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.errors import DataError
from data_pipelines.untrusted import read_npz
from dynapurls_jax.registry import Entry
from dynapurls_jax.text.encoders import unit_vectors
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.settings import TextSettings


class Precomputed:
    """The text vectors of a fixed set of classes."""

    def __init__(self, path: str | Path):
        """Sets the npz file, which `vectors` reads."""
        self._path = Path(path)

    @cached_property
    def digest(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self._path.read_bytes()).hexdigest()[:16]

    def vectors(self, class_names: Sequence[str]) -> Float[np.ndarray, "C G d"]:
        """`F` of these classes; see `load_precomputed`."""
        return load_precomputed(self._path, class_names)

    def encode(self, texts: list[str]) -> np.ndarray:
        """Not supported: the file has no vectors of other texts.

        Raises:
          ValueError: always; the message lists the encoders of texts.
        """
        raise ValueError(
            f"text.encoder=precomputed has vectors of fixed classes only ({self._path}): expected "
            f"clip, minilm or hashing to encode {texts[0]!r}"
        )


def load_precomputed(path: str | Path, class_names: Sequence[str]) -> Float[np.ndarray, "C G d"]:
    """`F` from an npz file with `names` `[C']` and `text` `[C', 8, d]`.

    Args:
      class_names: the `C` classes of the result, in its order; the file may have more.

    Returns:
      float32, unit length.

    Raises:
      FileNotFoundError: no such file.
      DataError: keys, shapes, class names or values are not as expected.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"text.precomputed: expected an npz file with names and text, found no file {path}"
        )
    arrays = read_npz(path, ("names", "text"))
    names, text = arrays["names"].tolist(), arrays["text"]
    if text.dtype.kind not in "fiu":
        raise DataError(f"expected text to hold numbers, got {text.dtype}", path)
    if text.ndim != 3 or text.shape[:2] != (len(names), len(GRANULARITIES)):
        raise DataError(
            f"expected text [{len(names)}, {len(GRANULARITIES)}, d] for {len(names)} names, "
            f"got {list(text.shape)}",
            path,
        )
    missing = [name for name in class_names if name not in names]
    if missing:
        raise DataError(
            f"expected text of all {len(class_names)} classes, got {len(names)}; "
            f"missing: {', '.join(map(repr, missing[:5]))}",
            path,
        )
    if not np.isfinite(text).all():
        raise DataError("expected finite text vectors, got NaN or infinity", path)
    return unit_vectors(text[[names.index(name) for name in class_names]].astype(np.float32))


ENTRY = Entry(
    make=lambda settings: Precomputed(settings.precomputed),
    settings=TextSettings,
    description="Vectors of your own, read from an npz file",
)
