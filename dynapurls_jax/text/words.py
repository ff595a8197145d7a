"""A verb and a noun for each class, for methods that align them separately (JPoSE, SynSE)."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from data_pipelines.corpus import Corpus
from data_pipelines.errors import DataError
from dynapurls_jax.text.encoders import TextEncoder, make_text_encoder, unit_vectors
from dynapurls_jax.text.features import cached, read_descriptions
from dynapurls_jax.text.settings import TextSettings

NO_NOUN = "#"  # of an action without an object, as in SynSE
Words = tuple[str, str]


def words_of(name: str, texts: Mapping[str, object], source: object = "texts") -> Words:
    """The verb and the noun of a class: its entries `verb` and `noun`, else from its name.

    Without entries the verb is the first word of the name, and the noun the last of several.

    Args:
      source: of the texts, for errors.

    Raises:
      DataError: an entry is not a word.
    """
    verb, *rest = name.replace("_", " ").split() or [NO_NOUN]
    found = texts.get("verb", verb), texts.get("noun", rest[-1] if rest else NO_NOUN)
    for kind, word in zip(("verb", "noun"), found, strict=True):
        if not (isinstance(word, str) and word.strip()):
            raise DataError(f"class {name!r}: expected a word for {kind!r}, got {word!r}", source)
    return str(found[0]).strip(), str(found[1]).strip()


def class_words(settings: TextSettings, corpus: Corpus) -> list[Words]:
    """The words of all classes of a corpus, in class id order.

    Raises:
      ValueError, FileNotFoundError, DataError: descriptions cannot be used.
    """
    descriptions, source = read_descriptions(settings, corpus)
    return [words_of(name, descriptions.get(name, {}), source) for name in corpus.class_names]


def encode_words(words: Sequence[Words], encoder: TextEncoder) -> Float[np.ndarray, "C 2 d"]:
    """Unit vectors of verbs and nouns, without a template."""
    vectors = unit_vectors(encoder.encode([word for pair in words for word in pair]))
    return vectors.reshape(len(words), 2, -1)


def word_features(settings: TextSettings, corpus: Corpus) -> Float[np.ndarray, "C 2 d"]:
    """Unit vectors of the verb and the noun of each class, in class id order; cached.

    Raises:
      ValueError, FileNotFoundError, DataError: descriptions or weights cannot be used.
    """
    if settings.encoder == "precomputed":
        raise ValueError(
            "text.encoder=precomputed has no vectors of verbs and nouns: expected another encoder, "
            "or a method without them"
        )
    encoder, words = make_text_encoder(settings), class_words(settings, corpus)
    source = json.dumps(["words", settings.encoder, encoder.digest, words])
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    return cached(digest, lambda: encode_words(words, encoder))
