"""Text encoders behind one interface, and class descriptions through one of them to `F`."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from sklearn.feature_extraction.text import HashingVectorizer

from data_pipelines.errors import DataError, unknown
from data_pipelines.formats.npy import read_npz
from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.text.clip import CLIPEncoder
from dynapurls_jax.text.descriptions import ClassTexts
from dynapurls_jax.text.minilm import MiniLM


@runtime_checkable
class TextEncoder(Protocol):
    """Sentences to vectors of one width; `digest` names the weights they come from."""

    digest: str

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, d]` float32."""
        ...


class Hashing:
    """Signed hashes of words and word pairs: no download, no training, and no notion of meaning.

    Two texts are near if they share words, so synonyms are as far apart as opposites. Good enough
    for texts with a small, shared vocabulary, such as the demo's; weak for anything else.
    """

    digest = "scikit-learn"

    def __init__(self, dim: int = 512):
        self._vectorizer = HashingVectorizer(
            n_features=dim, ngram_range=(1, 2), norm="l2", stop_words="english"
        )

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, dim]` float32, unit rows (zero for a text of stop words only)."""
        return self._vectorizer.transform(texts).toarray().astype(np.float32)


ENCODERS: dict[str, Callable[[ConfigDict], TextEncoder]] = {
    "hashing": lambda settings: Hashing(),
    "minilm": lambda settings: MiniLM(),
    "clip": lambda settings: CLIPEncoder(settings.model, settings.dtype),
}


def make_text_encoder(settings: ConfigDict) -> TextEncoder:
    """The encoder that `config.text` names.

    Raises:
      ValueError: unknown name.
      ModuleNotFoundError, FileNotFoundError: its weights are not there; says how to get them.
    """
    if settings.encoder not in ENCODERS:
        raise unknown("text encoder", settings.encoder, [*ENCODERS, "precomputed"])
    return ENCODERS[settings.encoder](settings)


def in_templates(texts: ClassTexts, templates: Mapping[str, str]) -> ClassTexts:
    """Each text in the template of its granularity.

    Args:
      texts: `C` lists of `G` lists of phrasings.
      templates: granularity to a text with one `{}`, e.g. "a video of {}" (section 3.2.2).

    Raises:
      ValueError: a template has no `{}`.
    """
    for granularity in GRANULARITIES:
        if templates[granularity].count("{}") != 1:
            raise ValueError(
                f"text.template.{granularity}: expected a text with one {{}}, "
                f"got {templates[granularity]!r}"
            )
    return [
        [
            [templates[granularity].replace("{}", text) for text in phrasings]
            for granularity, phrasings in zip(GRANULARITIES, row, strict=True)
        ]
        for row in texts
    ]


def encode_descriptions(texts: ClassTexts, encoder: TextEncoder) -> Float[np.ndarray, "C G d"]:
    """Class descriptions to `F` (eq. 2-3): encoded, unit length, mean of phrasings, unit length.

    Args:
      texts: `C` lists of `G` lists of phrasings.

    Raises:
      ValueError: the encoder gives NaN.
    """
    flat = [text for row in texts for phrasings in row for text in phrasings]
    vectors = unit_rows(encoder.encode(flat))
    if not np.isfinite(vectors).all():
        raise ValueError("text encoder: expected finite vectors, got NaN or infinity")
    counts = [len(phrasings) for row in texts for phrasings in row]
    sums = np.add.reduceat(vectors, np.cumsum([0, *counts[:-1]]), axis=0)
    return unit_rows(sums).reshape(len(texts), len(GRANULARITIES), -1)


def load_precomputed(path: str | Path, class_names: Sequence[str]) -> Float[np.ndarray, "C G d"]:
    """`F` from an npz with `names` `[C]` and `text` `[C, 8, d]`; rows are put in class id order.

    Raises:
      FileNotFoundError: no such file.
      DataError: keys, shapes, class names or values are not as expected.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"expected an npz with names and text at {path}, found none")
    try:
        with zipfile.ZipFile(path) as archive:
            names, text = read_npz(archive, "names").tolist(), read_npz(archive, "text")
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"expected an npz with arrays names and text ({error})", path) from error
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
            f"without: {', '.join(map(repr, missing[:5]))}",
            path,
        )
    if not np.isfinite(text).all():
        raise DataError("expected finite text vectors, got NaN or infinity", path)
    return unit_rows(text[[names.index(name) for name in class_names]].astype(np.float32))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length; rows of zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
