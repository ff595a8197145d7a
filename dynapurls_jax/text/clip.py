"""CLIP's text tower (Radford et al., 2021) in Flax, for any text config of the CLIP family."""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data_pipelines.errors import DataError
from data_pipelines.papers import Paper
from dynapurls_jax.registry import Entry
from dynapurls_jax.text.pretrained import CONFIG, Pretrained
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.text.transformer import (
    CLIP_LAYER,
    encode_in_batches,
    exact_jit,
    layer_params,
    layers_of,
    norm_params,
)

_LENGTHS = 16  # texts are padded to a multiple of this, so that few shapes are compiled
_OLD_EOS = 2  # `eos_token_id` of configs before 2023; the end token then has the largest id


class CLIPText(nn.Module):
    """Token ids to vectors in the joint space of texts and images.

    Attention is causal and the output is that of the end token, so padding after it needs no mask.

    Attributes:
      config: the text config of a CLIP model, with the attribute names of `transformers`.
      dtype: of features; normalisation and the result are always float32.
    """

    config: Any
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.token_embedding = nn.Embed(c.vocab_size, c.hidden_size)
        self.position_embedding = nn.Embed(c.max_position_embeddings, c.hidden_size)
        self.layers = layers_of(c, norm_first=True, dtype=self.dtype)
        self.final_norm = nn.LayerNorm(c.layer_norm_eps, dtype=jnp.float32, use_fast_variance=False)
        self.projection = nn.Dense(c.projection_dim, use_bias=False)

    def __call__(self, ids: Int[Array, "N L"]) -> Float[Array, "N d"]:
        """Text vectors, not normalised."""
        return self.from_embeddings(self.embed(ids), self.end_of(ids))

    def embed(self, ids: Int[Array, "N L"]) -> Float[Array, "N L width"]:
        """Token embeddings, without position embeddings."""
        return self.token_embedding(ids)

    def end_of(self, ids: Int[Array, "N L"]) -> Int[Array, " N"]:
        """Position of the end token of each text."""
        if self.config.eos_token_id == _OLD_EOS:
            return jnp.argmax(ids, axis=1)
        return jnp.argmax(ids == self.config.eos_token_id, axis=1)

    def from_embeddings(
        self, embeddings: Float[Array, "N L width"], end: Int[Array, " N"]
    ) -> Float[Array, "N d"]:
        """Text vectors of any input embeddings, such as tuned prompts.

        Args:
          embeddings: without position embeddings.
          end: position of the end token of each text.
        """
        length = embeddings.shape[1]
        x = (embeddings + self.position_embedding(jnp.arange(length))).astype(self.dtype)
        causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
        for layer in self.layers:
            x = layer(x, causal)
        at_end = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        return self.projection(self.final_norm(at_end))


def clip_params(weights: Mapping[str, np.ndarray], num_layers: int) -> dict:
    """Parameters of `CLIPText` from published tensors."""
    root = "text_model"
    params = {
        **layer_params(weights, f"{root}.encoder.layers", num_layers, CLIP_LAYER),
        "token_embedding": {"embedding": weights[f"{root}.embeddings.token_embedding.weight"]},
        "position_embedding": {
            "embedding": weights[f"{root}.embeddings.position_embedding.weight"]
        },
        "final_norm": norm_params(weights, f"{root}.final_layer_norm"),
        "projection": {"kernel": weights["text_projection.weight"].T},
    }
    return {"params": jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), params)}


class CLIPEncoder:
    """Sentences to CLIP text vectors; the encoder of the paper (ViT-B/32, d = 512).

    The constructor hashes the weights; the first call of `encode` or `embedded` loads them.
    """

    def __init__(self, model: str, dtype: str = "float32"):
        """Finds a model.

        Args:
          model: an id on the Hugging Face hub, or a local folder.
          dtype: of features.

        Raises:
          FileNotFoundError: no such model; the message lists the files, and where to put them.
          DataError: not a CLIP model with safetensors.
        """
        self._pretrained = Pretrained.find(model)
        self.config = text_config(self._pretrained)
        self.dtype = jnp.dtype(dtype)
        self.digest = f"{self._pretrained.digest}-{dtype}"

    @cached_property
    def tokenizer(self):
        """The tokenizer of `transformers`.

        Raises:
          DataError: it does not belong to the model.
        """
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._pretrained.folder)
        if self.config.eos_token_id not in (_OLD_EOS, tokenizer.eos_token_id):
            reason = f"the config of the model ends texts with {self.config.eos_token_id}"
        elif len(tokenizer) > self.config.vocab_size or tokenizer.eos_token_id is None:
            reason = f"the model embeds {self.config.vocab_size} tokens"
        else:
            return tokenizer
        raise DataError(
            f"expected the tokenizer of this model, got one of {len(tokenizer)} tokens that ends "
            f"texts with {tokenizer.eos_token_id}: {reason}",
            self._pretrained.folder,
        )

    @cached_property
    def _tower(self) -> tuple[CLIPText, dict]:
        weights = self._pretrained.weights(("text_model.", "text_projection."))
        params = clip_params(weights, self.config.num_hidden_layers)
        return CLIPText(self.config, self.dtype), params

    @cached_property
    def _apply(self) -> Callable:
        tower, variables = self._tower
        return partial(exact_jit(tower.apply), variables)

    def tokens(self, texts: list[str]) -> Int[np.ndarray, "N L"]:
        """Token ids with start and end, padded; long texts are truncated before the end token."""
        limit = self.config.max_position_embeddings
        ids = self.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        longest = max(len(tokens) for tokens in ids)
        length = min(limit, -(-longest // _LENGTHS) * _LENGTHS)
        end = self.tokenizer.eos_token_id
        return np.array([tokens + [end] * (length - len(tokens)) for tokens in ids], np.int32)

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, d]` float32, not normalised."""
        return encode_in_batches(lambda batch: self._apply(jnp.asarray(self.tokens(batch))), texts)

    def embedded(self, texts: list[str]) -> tuple[Float[Array, "N L width"], Callable]:
        """Input embeddings of texts, and the differentiable map from them to vectors `[N, d]`."""
        tower, variables = self._tower
        ids = jnp.asarray(self.tokens(texts))
        embeddings: Any = tower.apply(variables, ids, method="embed")
        end = tower.apply(variables, ids, method="end_of")
        return embeddings, lambda x: tower.apply(variables, x, end, method="from_embeddings")


def text_config(model: Pretrained) -> Any:
    """The text config of a CLIP model, or of CLIP's text tower alone.

    Raises:
      DataError: not a CLIP model.
    """
    from transformers import CLIPConfig, CLIPTextConfig

    kind = model.config.get("model_type")
    if kind == "clip_text_model":
        return CLIPTextConfig(**model.config)
    if kind != "clip":
        expected = "model_type clip or clip_text_model"
        raise DataError(f"expected {expected}, got {kind!r}", model.folder / CONFIG)
    config = CLIPConfig(**model.config)
    text: Any = config.text_config
    # The width of the joint space is in the config of the whole model.
    return CLIPTextConfig(**text.to_dict() | {"projection_dim": config.projection_dim})


ENTRY = Entry(
    make=lambda settings: CLIPEncoder(settings.model, settings.dtype),
    settings=TextSettings,
    description="CLIP's text tower in Flax; weights from the Hugging Face hub",
    paper=Paper("Radford et al., ICML 2021", "https://arxiv.org/abs/2103.00020"),
)
