"""The text side of a configuration: descriptions, an encoder, and out comes `F`."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from data_pipelines.corpus import Corpus
from data_pipelines.demo.recipes import demo_recipes
from data_pipelines.demo.wording import describe
from data_pipelines.paths import data_home
from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.text.descriptions import (
    ClassTexts,
    Descriptions,
    check_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.encoders import (
    TextEncoder,
    encode_descriptions,
    in_templates,
    load_precomputed,
    make_text_encoder,
)

VERSION = 1  # of everything that is done to a text here and in the encoders


def text_features(settings: ConfigDict, corpus: Corpus) -> tuple[Float[np.ndarray, "C G d"], str]:
    """`F` of all classes of a corpus, in class id order (eq. 2-3), and a hash of its source.

    The hash is of the encoder's weights and of the texts in their templates, not of the vectors,
    whose last bits differ between devices. Under it the vectors are kept below `data_home()`.

    Args:
      settings: `config.text`.

    Raises:
      ValueError, FileNotFoundError, DataError: what is missing or wrong, and where.
    """
    if settings.encoder == "precomputed":
        vectors = load_precomputed(settings.precomputed, corpus.class_names)
        return vectors, _digest(Path(settings.precomputed).read_bytes())
    encoder = make_text_encoder(settings)
    texts = class_texts(settings, corpus)
    made_from = {"encoder": settings.encoder, "weights": encoder.digest, "texts": texts}
    made_from["version"] = VERSION
    digest = _digest(json.dumps(made_from).encode())
    return _kept(digest, lambda: encode_descriptions(texts, encoder)), digest


def class_texts(settings: ConfigDict, corpus: Corpus) -> ClassTexts:
    """The texts of all classes of a corpus in their templates, as they go into the encoder."""
    descriptions, source = _descriptions(settings, corpus)
    texts = check_descriptions(descriptions, corpus.class_names, source)
    return in_templates(texts, settings.template.to_dict())


def class_vector(
    settings: ConfigDict, encoder: TextEncoder, name: str, texts: object
) -> Float[np.ndarray, "G d"]:
    """The text of one class that no corpus has, as `text_features` would make it.

    Args:
      settings: `config.text`.
      encoder: of `make_text_encoder(settings)`.
      texts: granularity to a text, or to several phrasings.

    Raises:
      DataError: a granularity is missing.
    """
    checked = check_descriptions({name: texts}, [name], "texts")
    checked = in_templates(checked, settings.template.to_dict())
    return encode_descriptions(checked, encoder)[0]


def _kept(digest: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array from the cache, made and put there if it is not."""
    file = data_home() / "text" / f"{digest}.npy"
    try:
        return np.load(file)
    except (FileNotFoundError, ValueError, EOFError):  # never made, or half written by a crash
        vectors = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as written:
        np.save(written, vectors)
    temporary.replace(file)
    return vectors


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _descriptions(settings: ConfigDict, corpus: Corpus) -> tuple[Descriptions, object]:
    if not settings.descriptions and corpus.name == "demo":
        recipes = demo_recipes()
        return {r.name: describe(r, seed) for seed, r in enumerate(recipes)}, "demo recipes"
    if settings.descriptions == "names":
        by_name: Descriptions = {
            name: dict.fromkeys(GRANULARITIES, name) for name in corpus.class_names
        }
        return by_name, "names"
    path = settings.descriptions or corpus.descriptions or corpus.name
    if not Path(path).suffix:  # the name of a dataset, not a file
        path = shipped_descriptions(str(path))
    return load_descriptions(path), path
