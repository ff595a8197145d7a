"""CLIP's text tower against transformers, its tokens against the published BPE vocabulary."""

import gzip
import html
import itertools
import json
import os
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from data_pipelines.errors import DataError
from dynapurls_jax.text import transformer
from dynapurls_jax.text.clip import CLIPEncoder, CLIPText, clip_params
from dynapurls_jax.text.descriptions import (
    check_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.lint import estimated_tokens, lint

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
import torch
import transformers

NARROW = {"hidden_size": 32, "num_attention_heads": 4}  # else as ViT-B/32
CONFIGS = {
    "narrow": NARROW,
    "GELU": {"hidden_size": 24, "num_attention_heads": 2, "hidden_act": "gelu"},
    "old end token": {"hidden_size": 32, "num_attention_heads": 4, "eos_token_id": 2},
    "short": {"hidden_size": 32, "num_attention_heads": 1, "max_position_embeddings": 20},
}
VOCABULARY, START, END = 120, 118, 119


def reference_model(**changes):
    """A randomly initialised CLIP text model of transformers, with two layers."""
    settings = {
        "vocab_size": VOCABULARY,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "projection_dim": 12,
        "bos_token_id": START,
        "eos_token_id": END,
        "initializer_factor": 5.0,  # makes the vectors of different texts differ
    }
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(**settings | changes)
    peer = transformers.CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        for name, tensor in peer.named_parameters():
            if name.endswith("bias") or "norm" in name:
                tensor.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
    return peer


def converted(peer, dtype=jnp.float32):
    """The same model in Flax: the tower and its variables."""
    weights = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    variables = clip_params(weights, peer.config.num_hidden_layers)
    return CLIPText(peer.config, dtype), variables


def sentences(length, count=5):
    """Token ids of several texts: start, words, end, padding."""
    rng = np.random.default_rng(length)
    ids = np.full((count, length), END)
    for row in ids:
        words = int(rng.integers(1, length - 1))
        row[: words + 1] = [START, *rng.integers(3, START, words)]
    return ids.astype(np.int32)


@pytest.fixture(scope="module")
def narrow():
    """The reference model, the converted one, and its encoder of ids, compiled once."""
    peer = reference_model(**NARROW)
    tower, variables = converted(peer)
    return peer, tower, variables, jax.jit(partial(tower.apply, variables))


def check_vectors(peer, encode, ids):
    """Vectors equal those of transformers."""
    with torch.no_grad():
        expected = peer(torch.from_numpy(ids).long()).text_embeds.numpy()
    assert np.abs(expected).max() > 0.5
    vectors = encode(jnp.asarray(ids))
    np.testing.assert_allclose(vectors, expected, atol=1e-5 * np.abs(expected).max())


def test_vectors_equal_those_of_transformers(narrow):
    peer, _, _, encode = narrow
    check_vectors(peer, encode, sentences(16))


@pytest.mark.slow
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("length", [3, 16, 20])
def test_vectors_of_every_config_equal_those_of_transformers(changes, length):
    peer = reference_model(**changes, num_hidden_layers=3)
    tower, variables = converted(peer)
    check_vectors(peer, jax.jit(partial(tower.apply, variables)), sentences(length))


def test_padding_after_the_end_has_no_effect(narrow):
    _, _, _, encode = narrow
    ids = jnp.asarray(sentences(16))
    after = jnp.arange(16) > jnp.argmax(ids == END, axis=1)[:, None]
    assert after.any()
    changed = jnp.where(after, 7, ids)
    np.testing.assert_allclose(encode(ids), encode(changed), atol=1e-5)


def test_gradients_of_the_embeddings_equal_those_of_transformers(narrow):
    peer, tower, variables, _ = narrow
    ids = sentences(16)

    @jax.jit
    @jax.grad
    def gradient(embeddings):
        end = tower.apply(variables, jnp.asarray(ids), method="end_of")
        vectors = tower.apply(variables, embeddings, end, method="from_embeddings")
        return jnp.sum(vectors**2)

    embeddings = tower.apply(variables, jnp.asarray(ids), method="embed")
    outputs = []
    table = peer.text_model.embeddings.token_embedding
    hook = table.register_forward_hook(
        lambda module, inputs, out: outputs.append(out) or out.retain_grad()
    )
    (peer(torch.from_numpy(ids).long()).text_embeds ** 2).sum().backward()
    hook.remove()
    expected = outputs[0].grad.numpy()
    np.testing.assert_allclose(gradient(embeddings), expected, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_is_similar_to_float32(narrow):
    peer, _, variables, encode = narrow
    half_tower, _ = converted(peer, jnp.bfloat16)
    ids = jnp.asarray(sentences(16))
    whole, half = encode(ids), jax.jit(half_tower.apply)(variables, ids)
    assert half.dtype == jnp.float32
    cosine = jnp.sum(whole * half, -1) / jnp.linalg.norm(whole, axis=-1)
    assert float(jnp.min(cosine / jnp.linalg.norm(half, axis=-1))) > 0.99


def published_vocabulary(shared_data):
    """Tokens by id, merges by rank, and symbols of bytes, from the published file."""
    file = shared_data / "text" / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    plain = [*range(ord("!"), ord("~") + 1), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    symbols = dict(
        zip(plain + others, [*map(chr, plain), *map(chr, range(256, 512))], strict=False)
    )
    tokens = [*symbols.values(), *(s + "</w>" for s in symbols.values()), *map("".join, merges)]
    return [*tokens, "<|startoftext|>", "<|endoftext|>"], merges, symbols


def reference_tokens(text, ids, ranks, symbols):
    """Byte pair encoding: merges the pair of the lowest rank until no pair has a rank."""
    found = []
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+"
    for word in re.findall(pattern, html.unescape(text).lower()):
        parts = [symbols[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            at = pairs.index(best)
            parts[at : at + 2] = ["".join(best)]
        found += [ids[part] for part in parts]
    return found


@pytest.fixture(scope="module")
def model_folder(shared_data, tmp_path_factory):
    """A model folder in the hub's layout: tiny random weights, the published vocabulary."""
    folder = tmp_path_factory.mktemp("clip")
    tokens, merges, _ = published_vocabulary(shared_data)
    text = {"vocab_size": len(tokens), "hidden_size": 16, "intermediate_size": 16}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    vision = text | {"image_size": 32, "patch_size": 16}
    del vision["vocab_size"]
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)))
    return folder


@pytest.mark.shared_data
def test_tokens_are_those_of_the_published_vocabulary(shared_data, model_folder):
    encoder = CLIPEncoder(str(model_folder))
    tokens, merges, symbols = published_vocabulary(shared_data)
    ids, ranks = {t: i for i, t in enumerate(tokens)}, {pair: i for i, pair in enumerate(merges)}
    texts = []
    for file in sorted((shared_data / "text" / "clip_vit_b32").glob("*.csv")):
        texts += file.read_text("utf-8").splitlines()
    texts += ["It's 12:30, isn't it?", "naïve café", "UPPER  case\tand   spaces", "a_b - c/d (e)"]
    assert len(texts) > 400
    start, end = len(tokens) - 2, len(tokens) - 1
    for text in texts:
        expected = [start, *reference_tokens(text, ids, ranks, symbols)[:75], end]
        tokens_of_text = encoder.tokens([text])[0].tolist()
        assert tokens_of_text[: len(expected)] == expected, text
        assert set(tokens_of_text[len(expected) :]) <= {end}, text
        assert len(tokens_of_text) <= 77


@pytest.mark.shared_data
def test_shipped_descriptions_fit_into_clip(model_folder):
    """Counted with the published vocabulary; the lint's estimate is never lower."""
    encoder = CLIPEncoder(str(model_folder))
    for dataset in ("utd_mhad", "nw_ucla", "kinder_gator", "ntu120", "pku_mmd"):
        descriptions = load_descriptions(shipped_descriptions(dataset))
        assert lint(descriptions, lambda text: len(encoder.tokenizer(text)["input_ids"])) == []
        for texts in check_descriptions(descriptions, list(descriptions), dataset):
            for text in itertools.chain.from_iterable(texts):
                assert len(encoder.tokenizer(text)["input_ids"]) <= estimated_tokens(text)


@pytest.mark.shared_data
def test_a_model_folder_gives_the_vectors_of_transformers(model_folder, monkeypatch):
    monkeypatch.setattr(transformer, "BATCH", 4)
    texts = ["wave the right hand", "kick a ball " * 60, ""] * 2
    encoder = CLIPEncoder(str(model_folder))
    vectors = encoder.encode(texts)
    assert vectors.shape == (6, 8)
    np.testing.assert_array_equal(vectors[:3], vectors[3:])
    peer = transformers.CLIPTextModelWithProjection.from_pretrained(model_folder, projection_dim=8)
    for vector, text in zip(vectors[:3], texts, strict=False):
        with torch.no_grad():
            expected = peer.eval()(torch.from_numpy(encoder.tokens([text])).long()).text_embeds[0]
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    embeddings, encode = encoder.embedded(texts[:3])
    np.testing.assert_allclose(jax.jit(encode)(embeddings), vectors[:3], atol=1e-5)


@pytest.mark.shared_data
def test_the_error_of_an_incomplete_folder_names_the_file(model_folder, tmp_path):
    def fails(expected):
        with pytest.raises(DataError, match=expected):
            CLIPEncoder(str(tmp_path)).encode(["wave"])

    def write(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    fails(r"expected a file config\.json")
    write("config.json", "[]")
    fails(r"config\.json: expected an object, got list")
    write("config.json", "{}")
    fails(r"expected weights in model\.safetensors")
    write("model.safetensors", b"junk")
    fails(r"expected tokenizer\.json, or vocab\.json and merges\.txt")
    for name in ("vocab.json", "merges.txt"):
        write(name, (model_folder / name).read_bytes())
    fails("expected model_type clip")
    config = json.loads((model_folder / "config.json").read_text())
    write("config.json", json.dumps(config))
    fails(r"model\.safetensors: expected safetensors")
    whole = load_file(model_folder / "model.safetensors")
    without = {name: array for name, array in whole.items() if name != "text_projection.weight"}
    write("model.safetensors", save(without))
    fails(r"expected a tensor text_projection\.weight, found none")
    write("model.safetensors", save(whole))
    CLIPEncoder(str(tmp_path)).encode(["wave"])
    for changed in ({"vocab_size": 1000}, {"eos_token_id": 7}):
        write("config.json", json.dumps(config | {"text_config": config["text_config"] | changed}))
        fails("expected the tokenizer of this model, got one of 49408 tokens that ends texts with")


@pytest.mark.shared_data
def test_the_tokenizer_is_part_of_the_digest(model_folder, tmp_path):
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert CLIPEncoder(str(tmp_path)).digest == CLIPEncoder(str(model_folder)).digest
    merges = (tmp_path / "merges.txt").read_text()
    (tmp_path / "merges.txt").write_text(merges.rstrip() + "\nzz qq\n")
    assert CLIPEncoder(str(tmp_path)).digest != CLIPEncoder(str(model_folder)).digest
    assert CLIPEncoder(str(model_folder), "bfloat16").digest.endswith("bfloat16")
