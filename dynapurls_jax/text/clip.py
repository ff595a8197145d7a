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
from dynapurls_jax.text.pretrained import CONFIG, Pretrained
from dynapurls_jax.text.transformer import (
    CLIP_LAYER,
    Layer,
    exact_jit,
    layer_params,
    norm_params,
)

_BATCH = 64
_LENGTHS = 16  # texts are padded to a multiple of this, so that few shapes are compiled
_OLD_EOS = 2  # configs of before 2023 name this token as their end; the largest id is meant


class CLIPText(nn.Module):
    """Token ids to vectors in the space that CLIP shares with images.

    Attention is causal and the vector is read at the end token: what stands behind it (padding)
    plays no part, so there is no padding mask.

    Attributes:
      config: the text config of a CLIP model, with the names of `transformers`.
      dtype: of features; normalisation and the result are float32 always.
    """

    config: Any
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.token_embedding = nn.Embed(c.vocab_size, c.hidden_size)
        self.position_embedding = nn.Embed(c.max_position_embeddings, c.hidden_size)
        self.layers = [
            Layer(
                c.num_attention_heads,
                c.intermediate_size,
                c.hidden_act,
                c.layer_norm_eps,
                norm_first=True,
                dtype=self.dtype,
            )
            for _ in range(c.num_hidden_layers)
        ]
        self.final_norm = nn.LayerNorm(c.layer_norm_eps, dtype=jnp.float32, use_fast_variance=False)
        self.projection = nn.Dense(c.projection_dim, use_bias=False)

    def __call__(self, ids: Int[Array, "N L"]) -> Float[Array, "N d"]:
        """Text vectors, not normalised."""
        return self.from_embeddings(self.embed(ids), self.end_of(ids))

    def embed(self, ids: Int[Array, "N L"]) -> Float[Array, "N L width"]:
        """The embeddings of tokens, before positions are added."""
        return self.token_embedding(ids)

    def end_of(self, ids: Int[Array, "N L"]) -> Int[Array, " N"]:
        """Where each text ends."""
        if self.config.eos_token_id == _OLD_EOS:
            return jnp.argmax(ids, axis=1)
        return jnp.argmax(ids == self.config.eos_token_id, axis=1)

    def from_embeddings(
        self, embeddings: Float[Array, "N L width"], end: Int[Array, " N"]
    ) -> Float[Array, "N d"]:
        """Text vectors of embeddings that need not be those of tokens, as in prompt tuning.

        Args:
          embeddings: of each position, without position embeddings.
          end: position of the end token.
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
        "token_embedding": {"embedding": weights[f"{root}.embeddings.token_embedding.weight"]},
        "position_embedding": {
            "embedding": weights[f"{root}.embeddings.position_embedding.weight"]
        },
        "final_norm": norm_params(weights, f"{root}.final_layer_norm"),
        "projection": {"kernel": weights["text_projection.weight"].T},
    }
    for layer in range(num_layers):
        prefix = f"{root}.encoder.layers.{layer}"
        params[f"layers_{layer}"] = layer_params(weights, prefix, CLIP_LAYER)
    return {"params": jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), params)}


class CLIPEncoder:
    """Sentences to CLIP text vectors; the encoder of the paper (ViT-B/32, d = 512).

    Weights are hashed at once, and loaded when the first text comes.
    """

    def __init__(self, model: str, dtype: str = "float32"):
        """Finds a model.

        Args:
          model: an id on the Hugging Face hub, or a local folder.
          dtype: of features.

        Raises:
          FileNotFoundError: it is not there; says which files to fetch and where to put them.
          DataError: it is there, but no CLIP model with safetensors.
        """
        self._found = Pretrained.find(model)
        self.config = text_config(self._found)
        self.dtype = jnp.dtype(dtype)
        self.digest = f"{self._found.digest}-{dtype}"

    @cached_property
    def tokenizer(self):
        """Of `transformers`; it must be that of the model."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._found.folder)
        if self.config.eos_token_id not in (_OLD_EOS, tokenizer.eos_token_id):
            reason = f"its config ends texts with {self.config.eos_token_id}"
        elif len(tokenizer) > self.config.vocab_size or tokenizer.eos_token_id is None:
            reason = f"it embeds {self.config.vocab_size} tokens"
        else:
            return tokenizer
        raise DataError(
            f"expected the tokenizer of this model, got one of {len(tokenizer)} tokens that ends "
            f"texts with {tokenizer.eos_token_id}: {reason}",
            self._found.folder,
        )

    @cached_property
    def _tower(self) -> tuple[CLIPText, dict]:
        weights = self._found.weights(("text_model.", "text_projection."))
        params = clip_params(weights, self.config.num_hidden_layers)
        return CLIPText(self.config, self.dtype), params

    @cached_property
    def _apply(self) -> Callable:
        tower, variables = self._tower
        return partial(exact_jit(tower.apply), variables)

    def tokens(self, texts: list[str]) -> Int[np.ndarray, "N L"]:
        """Token ids with start and end, padded; texts that are too long are cut, and still end."""
        most = self.config.max_position_embeddings
        ids = self.tokenizer(texts, truncation=True, max_length=most)["input_ids"]
        longest = max(len(row) for row in ids)
        length = min(most, -(-longest // _LENGTHS) * _LENGTHS)
        end = self.tokenizer.eos_token_id
        return np.array([row + [end] * (length - len(row)) for row in ids], np.int32)

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, d]` float32, not normalised."""
        rows = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            filled = batch + [""] * (_BATCH - len(batch))  # one shape of batches
            rows.append(np.asarray(self._apply(jnp.asarray(self.tokens(filled))))[: len(batch)])
        return np.concatenate(rows)

    def embedded(self, texts: list[str]) -> tuple[Float[Array, "N L width"], Callable]:
        """Embeddings of texts, and what makes vectors `[N, d]` of such, differentiable."""
        tower, variables = self._tower
        ids = jnp.asarray(self.tokens(texts))
        embeddings: Any = tower.apply(variables, ids, method="embed")
        end = tower.apply(variables, ids, method="end_of")
        return embeddings, lambda x: tower.apply(variables, x, end, method="from_embeddings")


def text_config(found: Pretrained) -> Any:
    """The text config of a CLIP model, or of one that has only the text tower.

    Raises:
      DataError: it is no CLIP model.
    """
    from transformers import CLIPConfig, CLIPTextConfig

    kind = found.config.get("model_type")
    if kind == "clip_text_model":
        return CLIPTextConfig(**found.config)
    if kind != "clip":
        expected = "model_type clip or clip_text_model"
        raise DataError(f"expected {expected}, got {kind!r}", found.folder / CONFIG)
    # The width of the shared space is that of the whole model.
    whole = CLIPConfig(**found.config)
    own: Any = whole.text_config
    return CLIPTextConfig(**own.to_dict() | {"projection_dim": whole.projection_dim})
