"""The text side of a configuration: descriptions, an encoder, and out comes `F`."""

import hashlib
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from data_pipelines.corpus import Corpus
from data_pipelines.demo.recipes import demo_recipes
from data_pipelines.demo.wording import describe
from dynapurls_jax.text.descriptions import (
    GRANULARITIES,
    Descriptions,
    check_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.encoders import encode_descriptions, load_precomputed, make_text_encoder


def text_features(settings: ConfigDict, corpus: Corpus) -> tuple[Float[np.ndarray, "C G d"], str]:
    """`F` of all classes of a corpus, in class id order (eq. 2-3), and a hash of its source.

    The hash is of the texts, not of the vectors, whose last bits differ between devices.

    Args:
      settings: `config.text`.

    Raises:
      ValueError, FileNotFoundError, DataError: what is missing or wrong, and where.
    """
    if settings.encoder == "precomputed":
        vectors = load_precomputed(settings.precomputed, corpus.class_names)
        return vectors, _digest(Path(settings.precomputed).read_bytes())
    encoder = make_text_encoder(settings.encoder)
    descriptions, source = _descriptions(settings, corpus)
    texts = check_descriptions(descriptions, corpus.class_names, source)
    vectors = encode_descriptions(texts, encoder, settings.template)
    return vectors, _digest(json.dumps(texts).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _descriptions(settings: ConfigDict, corpus: Corpus) -> tuple[Descriptions, object]:
    if not settings.descriptions and corpus.name == "demo":
        recipes = demo_recipes()
        return {r.name: describe(r, seed) for seed, r in enumerate(recipes)}, "demo recipes"
    if settings.descriptions == "names":
        return {name: dict.fromkeys(GRANULARITIES, name) for name in corpus.class_names}, "names"
    path = settings.descriptions or corpus.descriptions or corpus.name
    if not Path(path).suffix:  # the name of a dataset, not a file
        path = shipped_descriptions(str(path))
    return load_descriptions(path), path
