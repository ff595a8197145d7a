"""Model files: arrays in the safetensors format, all other fields as JSON in the header.

A digest in the header covers all that is read.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data_pipelines.atomic import write_bytes
from data_pipelines.errors import DataError
from data_pipelines.skeletons import Skeleton
from data_pipelines.stored import DamagedError
from dynapurls_jax.adaptation.gated import Gate
from dynapurls_jax.encoders.base import trained_encoder
from dynapurls_jax.encoders.registry import make_encoder
from dynapurls_jax.registry import from_json, plain
from dynapurls_jax.serving.model import Classes, Model
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.registry import make_method

SUFFIX = ".safetensors"
RUN_MODEL = f"model{SUFFIX}"  # in the folder of a trained run
FORMAT = 3  # version of the file format
_KEY, _DIGEST = "dynapurls_jax", "sha256"  # keys in the header
_HALF = np.float16


def write_model(model: Model, file: Path, card: str = "") -> None:
    """Writes a model; texts and sketches are in half precision.

    Args:
      card: the model card, in Markdown.
    """
    encoder = {} if model.encoder is None else dict(model.encoder.variables)
    trees = {"method": model.variables, "encoder": encoder}
    arrays = {
        "/".join(path): np.asarray(leaf)
        for path, leaf in flatten_dict(jax.device_get(trees)).items()
    }
    arrays |= {name: array.astype(_HALF) for name, array in model.classes.arrays.items()}
    about = {
        "format": FORMAT,
        "config": plain(model.config, *model.config),
        "source": asdict(model.source),
        "skeleton": asdict(model.skeleton),
        "clip_shape": model.clip_shape,
        "token_shape": model.token_shape,
        "has_encoder": model.encoder is not None,
        "classes": model.classes.names,
        "candidates": model.candidates,
        "texts": model.texts,
        "seed": model.seed,
        "seen": model.seen,
        "gate": None if model.gate is None else asdict(model.gate),
        "none_below": model.none_below,
        "card": card,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(array, order="C") for name, array in arrays.items()}
    write_bytes(file, packed(about, arrays))


def packed(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """A model file: header and arrays, with a digest of both."""
    text = json.dumps(about)
    return save(arrays, {_KEY: text, _DIGEST: _digest(text, arrays)})


def _digest(text: str, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that is read from a model file."""
    sha = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def read_model(file: Path) -> Model:
    """Reads a model.

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is no model file, or has another version.
    """
    about, arrays = _read(file)
    try:
        config = ConfigDict(from_json(about["config"]))
        source, skeleton = (_skeleton(about[key]) for key in ("source", "skeleton"))
        token_shape, clip_shape = (tuple(about[key]) for key in ("token_shape", "clip_shape"))
        described = {
            name: arrays.pop(name).astype(np.float32)
            for name in ("text", "sketches", "words")
            if name in arrays
        }
        width = described["text"].shape[-1]
        trees = unflatten_dict({tuple(name.split("/")): array for name, array in arrays.items()})
        encoder = None
        if about["has_encoder"]:
            module = make_encoder(config.encoder, skeleton)
            streams = tuple(config.data.streams)
            encoder = trained_encoder(module, trees.get("encoder", {}), streams, skeleton)
        return Model(
            config=config,
            source=source,
            skeleton=skeleton,
            clip_shape=clip_shape,
            token_shape=token_shape,
            method=make_method(config.method, Shapes(skeleton, token_shape, width)),
            variables=jax.device_put(trees["method"]),
            encoder=encoder,
            classes=Classes(tuple(about["classes"]), **described),
            candidates=tuple(about["candidates"]),
            texts=about["texts"],
            seed=about["seed"],
            seen=tuple(about["seen"]),
            gate=None if about["gate"] is None else Gate(**from_json(about["gate"])),
            none_below=about["none_below"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"expected a model of this version: {error}; export it again", file
        ) from error


def read_card(file: Path | str) -> str:
    """The model card of a file, in Markdown.

    Raises:
      FileNotFoundError, DataError: see `read_model`.
    """
    return _read(Path(file))[0]["card"]


def _read(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file."""
    if not file.is_file():
        raise FileNotFoundError(
            f"no model file {file}; the training command writes it at the end of a run, and "
            "dynapurls export model anywhere"
        )
    try:
        with safe_open(file, "np") as opened:
            header = opened.metadata() or {}
            about = json.loads(header[_KEY])
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (KeyError, SafetensorError, ValueError) as error:
        raise DataError(f"expected a model file, got none ({error})", file) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(f"expected a model file of format {FORMAT}; export it again", file)
    if header.get(_DIGEST) != _digest(header[_KEY], arrays):
        raise DamagedError("damaged: not what was written; export or fetch it again", file)
    return about, arrays


def _skeleton(record: dict[str, Any]) -> Skeleton:
    parts = {name: tuple(joints) for name, joints in record["parts"].items()}
    pair = tuple(record["shoulders"])
    joints, parents = tuple(record["joints"]), tuple(record["parents"])
    changed = {"joints": joints, "parents": parents, "parts": parts, "shoulders": pair}
    return Skeleton(**(record | changed))
