"""Text towers against transformers, CLIP's tokens against the published BPE vocabulary."""

import gzip
import html
import itertools
import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from data_pipelines.errors import DataError
from dynapurls_jax.text.clip import CLIPEncoder, CLIPText, clip_params
from dynapurls_jax.text.descriptions import (
    check_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.lint import estimated_tokens, lint
from dynapurls_jax.text.minilm import MiniLM, _model_folder
from dynapurls_jax.text.pretrained import Pretrained

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
import torch
import transformers

CONFIGS = {
    "as ViT-B/32, narrow": {"hidden_size": 32, "num_attention_heads": 4},
    "GELU": {"hidden_size": 24, "num_attention_heads": 2, "hidden_act": "gelu"},
    "old end token": {"hidden_size": 32, "num_attention_heads": 4, "eos_token_id": 2},
    "short": {"hidden_size": 32, "num_attention_heads": 1, "max_position_embeddings": 20},
}
VOCABULARY, START, END = 120, 118, 119


def peer_of(**changes):
    """A randomly initialised CLIP text model of transformers."""
    settings = {
        "vocab_size": VOCABULARY,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "projection_dim": 12,
        "bos_token_id": START,
        "eos_token_id": END,
        "initializer_factor": 5.0,  # far from where all texts are alike
    }
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(**settings | changes)
    peer = transformers.CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        for name, tensor in peer.named_parameters():
            if name.endswith("bias") or "norm" in name:
                tensor.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
    return peer


def ours_of(peer, dtype=jnp.float32):
    weights = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    variables = clip_params(weights, peer.config.num_hidden_layers)
    return CLIPText(peer.config, dtype), variables


def sentences(length, count=5):
    """Token ids with start, end and, behind it, padding, of several lengths."""
    rng = np.random.default_rng(length)
    ids = np.full((count, length), END)
    for row in ids:
        words = int(rng.integers(1, length - 1))
        row[: words + 1] = [START, *rng.integers(3, START, words)]
    return ids.astype(np.int32)


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("length", [3, 16, 20])
def test_vectors_equal_those_of_transformers(changes, length):
    peer = peer_of(**changes)
    tower, variables = ours_of(peer)
    ids = sentences(length)
    with torch.no_grad():
        expected = peer(torch.from_numpy(ids).long()).text_embeds.numpy()
    got = jax.jit(tower.apply)(variables, jnp.asarray(ids))
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


def test_what_follows_the_end_plays_no_part():
    tower, variables = ours_of(peer_of(**CONFIGS["as ViT-B/32, narrow"]))
    short = jnp.asarray(sentences(8))
    long = jnp.pad(short, ((0, 0), (0, 6)), constant_values=7)
    np.testing.assert_allclose(
        tower.apply(variables, short), tower.apply(variables, long), atol=1e-5
    )


def test_gradients_reach_the_embeddings_and_equal_those_of_transformers():
    peer = peer_of(**CONFIGS["as ViT-B/32, narrow"])
    tower, variables = ours_of(peer)
    ids = sentences(9)

    def loss(embeddings):
        end = tower.apply(variables, jnp.asarray(ids), method="end_of")
        vectors = tower.apply(variables, embeddings, end, method="from_embeddings")
        return jnp.sum(vectors**2)

    embeddings = tower.apply(variables, jnp.asarray(ids), method="embed")
    got = jax.jit(jax.grad(loss))(embeddings)
    kept = []
    table = peer.text_model.embeddings.token_embedding
    table.register_forward_hook(lambda module, given, out: kept.append(out) or out.retain_grad())
    (peer(torch.from_numpy(ids).long()).text_embeds ** 2).sum().backward()
    expected = kept[0].grad.numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_is_near():
    peer = peer_of(**CONFIGS["as ViT-B/32, narrow"])
    tower, variables = ours_of(peer)
    narrow, _ = ours_of(peer, jnp.bfloat16)
    ids = jnp.asarray(sentences(12))
    whole, half = tower.apply(variables, ids), narrow.apply(variables, ids)
    assert half.dtype == jnp.float32
    cosine = jnp.sum(whole * half, -1) / jnp.linalg.norm(whole, axis=-1)
    assert float(jnp.min(cosine / jnp.linalg.norm(half, axis=-1))) > 0.99


def published_vocabulary(shared_data):
    """Tokens by id and merges by rank, as the owners' tokenizer reads its file."""
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
    """Byte pair encoding by the book: again and again, the pair of the lowest rank is joined."""
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
    """A folder as the hub serves it: tiny random weights, the published vocabulary."""
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
        got = encoder.tokens([text])[0].tolist()
        assert got[: len(expected)] == expected, text
        assert set(got[len(expected) :]) <= {end}, text
        assert len(got) <= 77


@pytest.mark.shared_data
def test_shipped_descriptions_fit_into_clip(model_folder):
    """Counted with the published vocabulary; the lint's estimate is never below that."""
    encoder = CLIPEncoder(str(model_folder))
    for dataset in ("utd_mhad", "nw_ucla", "kinder_gator", "ntu120", "pku_mmd"):
        descriptions = load_descriptions(shipped_descriptions(dataset))
        assert lint(descriptions, lambda text: len(encoder.tokenizer(text)["input_ids"])) == []
        for row in check_descriptions(descriptions, list(descriptions), dataset):
            for text in itertools.chain.from_iterable(row):
                assert len(encoder.tokenizer(text)["input_ids"]) <= estimated_tokens(text)


@pytest.mark.shared_data
def test_a_folder_as_the_hub_serves_it_gives_the_vectors_of_transformers(model_folder):
    texts = ["wave the right hand", "kick a ball " * 60, ""] * 30
    encoder = CLIPEncoder(str(model_folder))
    got = encoder.encode(texts)
    assert got.shape == (90, 8)
    peer = transformers.CLIPTextModelWithProjection.from_pretrained(model_folder, projection_dim=8)
    for row, text in zip(got[:3], texts, strict=False):
        with torch.no_grad():
            expected = peer.eval()(torch.from_numpy(encoder.tokens([text])).long()).text_embeds[0]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    embeddings, vectors = encoder.embedded(texts[:3])  # for prompts
    np.testing.assert_allclose(vectors(embeddings), got[:3], atol=1e-5)


@pytest.mark.shared_data
def test_incomplete_folders_are_named(model_folder, tmp_path):
    def broken(expected, texts=None):
        with pytest.raises(DataError, match=expected):
            CLIPEncoder(str(tmp_path)).encode(texts or ["wave"])

    def write(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    broken(r"expected a file config\.json")
    write("config.json", "[]")
    broken(r"config\.json: expected an object, got list")
    write("config.json", "{}")
    broken(r"expected weights in model\.safetensors")
    write("model.safetensors", b"junk")
    broken(r"expected tokenizer\.json, or vocab\.json and merges\.txt")
    for name in ("vocab.json", "merges.txt"):
        write(name, (model_folder / name).read_bytes())
    broken("expected model_type clip")
    config = json.loads((model_folder / "config.json").read_text())
    write("config.json", json.dumps(config))
    broken(r"model\.safetensors: expected safetensors")
    whole = load_file(model_folder / "model.safetensors")
    without = {name: array for name, array in whole.items() if name != "text_projection.weight"}
    write("model.safetensors", save(without))
    broken(r"expected a tensor text_projection\.weight, found none")
    write("model.safetensors", save(whole))
    CLIPEncoder(str(tmp_path)).encode(["wave"])
    for changed in ({"vocab_size": 1000}, {"eos_token_id": 7}):
        write("config.json", json.dumps(config | {"text_config": config["text_config"] | changed}))
        broken("expected the tokenizer of this model, got one of 49408 tokens that ends texts with")


@pytest.mark.shared_data
def test_the_tokenizer_is_part_of_the_digest(model_folder, tmp_path):
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert CLIPEncoder(str(tmp_path)).digest == CLIPEncoder(str(model_folder)).digest
    merges = (tmp_path / "merges.txt").read_text()
    (tmp_path / "merges.txt").write_text(merges.rstrip() + "\nzz qq\n")
    assert CLIPEncoder(str(tmp_path)).digest != CLIPEncoder(str(model_folder)).digest
    assert CLIPEncoder(str(model_folder), "bfloat16").digest.endswith("bfloat16")


def test_minilm_equals_the_packages_own_model():
    """The model that the package ships, through transformers and torch: mean over tokens."""
    encoder = MiniLM()
    folder = Pretrained.find(str(_model_folder())).folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    peer = transformers.AutoModel.from_pretrained(folder).eval()
    texts = ["wave the right hand", "Sit down: the knees bend, the trunk leans forward. " * 40, "x"]
    given = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        states = peer(**given).last_hidden_state
    mask = given["attention_mask"][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean).numpy()
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-5)
