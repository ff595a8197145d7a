"""The text embeddings `F` of a corpus: descriptions, templates, encoder, cache."""

import hashlib
import json
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from data_pipelines import stored
from data_pipelines.corpus import Corpus
from data_pipelines.demo.recipes import demo_recipes
from data_pipelines.demo.wording import describe
from data_pipelines.paths import data_home
from data_pipelines.sketches import Sketch, parse_sketch
from dynapurls_jax.text.descriptions import (
    ClassTexts,
    Descriptions,
    check_descriptions,
    find_descriptions,
    load_descriptions,
)
from dynapurls_jax.text.encoders import (
    TextEncoder,
    encode_descriptions,
    in_templates,
    make_text_encoder,
)
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.precomputed import Precomputed
from dynapurls_jax.text.settings import TextSettings

VERSION = 1  # of the processing of texts here and in the encoders; part of the digest


def text_features(settings: TextSettings, corpus: Corpus) -> tuple[Float[np.ndarray, "C G d"], str]:
    """`F` of all classes of a corpus, in class id order (eq. 2-3), and its digest.

    The digest is a hash of the encoder's weights and of the texts in their templates, not of the
    vectors, whose last bits differ between devices. The vectors are cached by digest in
    `data_home()`.

    Raises:
      ValueError, FileNotFoundError, DataError: descriptions, weights or vectors cannot be used; the
        message has the file, the expected and the actual content.
    """
    encoder = make_text_encoder(settings)
    if isinstance(encoder, Precomputed):
        return encoder.vectors(corpus.class_names), encoder.digest
    texts = class_texts(settings, corpus)
    source = {
        "encoder": settings.encoder,
        "weights": encoder.digest,
        "texts": texts,
        "version": VERSION,
    }
    digest = hashlib.sha256(json.dumps(source).encode()).hexdigest()[:16]
    return cached(digest, lambda: encode_descriptions(texts, encoder)), digest


def class_texts(settings: TextSettings, corpus: Corpus) -> ClassTexts:
    """The texts of all classes of a corpus in their templates, as the encoder receives them.

    Raises:
      ValueError, FileNotFoundError, DataError: descriptions cannot be used.
    """
    return in_templates(class_descriptions(settings, corpus), settings.template)


def class_descriptions(settings: TextSettings, corpus: Corpus) -> ClassTexts:
    """The descriptions of all classes of a corpus, without templates, in class id order.

    Raises:
      ValueError, FileNotFoundError, DataError: descriptions cannot be used.
    """
    descriptions, source = read_descriptions(settings, corpus)
    return check_descriptions(descriptions, corpus.class_names, source)


def class_sketches(settings: TextSettings, corpus: Corpus) -> tuple[Sketch | None, ...]:
    """The motion sketch of every class, None for one without, in class id order.

    Raises:
      ValueError, FileNotFoundError: descriptions cannot be used.
      DataError: a sketch cannot be parsed; the message lists the known words.
    """
    try:
        descriptions, source = read_descriptions(settings, corpus)
    except ValueError:
        if settings.encoder != "precomputed":
            raise
        return (None,) * len(corpus.class_names)  # vectors without descriptions
    return tuple(
        parse_sketch(described["sketch"], name, source)
        if "sketch" in (described := descriptions.get(name, {}))
        else None
        for name in corpus.class_names
    )


def class_vector(
    settings: TextSettings, encoder: TextEncoder, name: str, texts: object
) -> Float[np.ndarray, "G d"]:
    """The text embeddings of one class outside the corpus, processed as in `text_features`.

    Args:
      encoder: of `make_text_encoder(settings)`.
      texts: granularity to a text, or to several phrasings.

    Raises:
      DataError: a granularity is missing.
      ValueError: the encoder is "precomputed".
    """
    checked = check_descriptions({name: texts}, [name], "texts")
    return encode_descriptions(in_templates(checked, settings.template), encoder)[0]


def cached(digest: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of this digest from the cache; computed and saved there if missing or damaged."""
    file = data_home() / "text" / f"{digest}.npz"
    try:
        return stored.read_arrays(file)[0]["vectors"]
    except (FileNotFoundError, stored.DamagedError):
        vectors = compute()
    stored.write_arrays(file, {"vectors": vectors})
    return vectors


def read_descriptions(settings: TextSettings, corpus: Corpus) -> tuple[Descriptions, object]:
    """The descriptions that the settings choose, and their source for errors."""
    if not settings.descriptions and corpus.name == "demo":
        recipes = demo_recipes()
        return {r.name: describe(r, seed) for seed, r in enumerate(recipes)}, "demo recipes"
    if settings.descriptions == "names":
        names: Descriptions = {
            name: dict.fromkeys(GRANULARITIES, name) for name in corpus.class_names
        }
        return names, "names"
    path = find_descriptions(settings.descriptions or corpus.descriptions or corpus.name)
    return load_descriptions(path), path
