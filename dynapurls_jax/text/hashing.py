"""Hashed words as text vectors: no download, no training."""

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from dynapurls_jax.registry import Entry
from dynapurls_jax.text.settings import TextSettings


class Hashing:
    """Signed hashes of words and word pairs.

    Texts are similar if they share words: synonyms are as far apart as opposites. This is enough
    for texts with a small common vocabulary, such as the demo's, and weak for others.
    """

    digest = "scikit-learn"

    def __init__(self) -> None:
        self._vectorizer = HashingVectorizer(
            n_features=512, ngram_range=(1, 2), norm="l2", stop_words="english"
        )

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, d]` float32, unit length (zero for a text of stop words only)."""
        return self._vectorizer.transform(texts).toarray().astype(np.float32)


ENTRY = Entry(
    make=lambda settings: Hashing(),
    settings=TextSettings,
    description="Hashed words and word pairs; no download",
)
