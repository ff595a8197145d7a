"""The text side of a configuration: descriptions, an encoder, and out comes `F`."""

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from data_pipelines.corpus import Corpus
from data_pipelines.demo.recipes import demo_recipes
from data_pipelines.demo.wording import describe
from dynapurls_jax.text.descriptions import (
    Descriptions,
    check_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.encoders import encode_descriptions, load_precomputed, make_encoder


def text_features(settings: ConfigDict, corpus: Corpus) -> Float[np.ndarray, "C G d"]:
    """`F` of all classes of a corpus, in class id order (eq. 2-3).

    Args:
      settings: `config.text`.

    Raises:
      ValueError, FileNotFoundError, DataError: what is missing or wrong, and where.
    """
    if settings.encoder == "precomputed":
        return load_precomputed(settings.precomputed, corpus.class_names)
    descriptions, source = _descriptions(settings, corpus)
    texts = check_descriptions(descriptions, corpus.class_names, source)
    return encode_descriptions(texts, make_encoder(settings.encoder), settings.template)


def _descriptions(settings: ConfigDict, corpus: Corpus) -> tuple[Descriptions, object]:
    if not settings.descriptions and corpus.name == "demo":
        recipes = demo_recipes()
        return {r.name: describe(r, seed) for seed, r in enumerate(recipes)}, "demo recipes"
    path = settings.descriptions or shipped_descriptions(corpus.name)
    return load_descriptions(path), path
