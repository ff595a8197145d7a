"""The configuration of a run: every section is built from the settings that it configures."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from data_pipelines.errors import unknown
from data_pipelines.settings import Augmentation, DataSettings
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.registry import from_json, section_of, settings_of
from dynapurls_jax.reproduction.tables import PAPER_MODEL
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.training.method_task import FitSettings
from dynapurls_jax.training.optimizers import PretrainSettings
from dynapurls_jax.zero_shot.purls import REPAIRED
from dynapurls_jax.zero_shot.registry import METHODS

SECTIONS = {
    "data": DataSettings,
    "augment": Augmentation,
    "pretrain": PretrainSettings,
    "text": TextSettings,
    "fit": FitSettings,
    "eval": EvalSettings,
}
# Sections with a `name` and the settings of each part under its name, and the default part.
PARTS = {"encoder": (ENCODERS, "shift_gcn"), "method": (METHODS, "purls")}
PARTS["adapter"] = (ADAPTERS, "balanced")


def default_config() -> ConfigDict:
    """All keys with their defaults; an experiment changes a few and leaves it locked.

    A key that is not here is an error that names the nearest one.
    """
    config = ConfigDict()
    config.name = "run"  # names the default workdir, runs/<name>
    config.splits = ("",)  # see data_pipelines.protocols.unseen_classes
    config.seeds = (0,)  # one training run for each split and seed
    for name, settings in SECTIONS.items():
        config[name] = section_of(settings)
    for name, (registry, default) in PARTS.items():
        config[name] = registry.section(default)
    return config.lock()


def check_config(config: ConfigDict) -> None:
    """Refuses, before any work, a configuration that lacks keys or has values that cannot be used.

    Adds the settings of parts that are named by their import path, see `registry.Registry`.

    Raises:
      ValueError: names the key, what was expected and what came.
    """
    if not isinstance(config, ConfigDict):
        raise ValueError(
            "get_config() should return the ConfigDict of dynapurls_jax.config.default_config(), "
            f"changed, got {type(config).__name__}"
        )
    expected, found = (
        flatten_dict(one.to_dict(), sep=".").keys() for one in (default_config(), config)
    )
    missing = sorted(expected - found)
    if missing:
        raise ValueError(
            f"config lacks {', '.join(missing)}: get_config() should start from "
            "dynapurls_jax.config.default_config()"
        )
    check_runs(config.splits, config.seeds)
    for name, settings in SECTIONS.items():
        settings_of(settings, config[name], name)
    for name, (registry, _) in PARTS.items():
        registry.complete(config[name])


def check_runs(splits: Any, seeds: Any) -> None:
    """Refuses empty splits and seeds, and values of other types.

    Raises:
      ValueError: names the key, what was expected and what came.
    """
    if not splits or isinstance(splits, str) or not all(isinstance(one, str) for one in splits):
        raise ValueError(f"splits: expected names, as in --config.splits=22_5,18_9, got {splits!r}")
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds: expected whole numbers, as in --config.seeds=0,1, got {seeds!r}")


def check_override(path: str, value: str | None) -> None:
    """Refuses a value of a command line for a key that does not exist, or is of another type.

    Args:
      path: the key, such as "method.name".
      value: as typed; None without one.

    Raises:
      ValueError: names the key, what was expected and what came.
    """
    default: Any = default_config()
    for depth, key in enumerate(path.split(".")):
        where = ".".join(["--config", *path.split(".")[:depth]])
        if not isinstance(default, ConfigDict):
            raise ValueError(f"--config.{path}: {where} is no section, it has no keys")
        if key not in default:
            raise unknown(f"key of {where}:", key, default)
        default = default[key]
    if isinstance(default, ConfigDict):
        keys = ", ".join(default)
        raise ValueError(
            f"--config.{path} is a section: expected --config.{path}.KEY, one of {keys}"
        )
    kind = "a whole number" if type(default) is int else "a number"
    if type(default) in (int, float) and value is not None:
        try:
            type(default)(value)
        except ValueError:
            raise ValueError(f"--config.{path}: expected {kind}, got {value!r}") from None


def restored_config(values: Mapping[str, Any]) -> ConfigDict:
    """A configuration that was written as JSON; keys of a later version have their defaults.

    Raises:
      AttributeError, KeyError, TypeError, ValueError: it is none of this version.
    """
    config, values = default_config(), from_json(values)
    for name in PARTS:
        own = {key: part for key, part in values.get(name, {}).items() if ":" in key}
        with config[name].unlocked():
            config[name].update(own)
    config.update(values)
    check_config(config)
    return config


def paper_config(name: str) -> ConfigDict:
    """The settings of the paper's section 4.1.4, for NTU RGB+D and PKU-MMD.

    Two things differ from the paper: clips are augmented while the encoder is trained, and the
    texts are this project's descriptions through MiniLM. Shift-GCN's recipe is its authors'.
    """
    config = default_config()
    config.name = name
    config.data.name = name
    config.data.frames = 300
    config.data.temporal_sampling = "published"
    config.pretrain.epochs = 140
    config.pretrain.batch_size = 64
    config.pretrain.optimizer = "sgd"  # Shift-GCN's own recipe, on which the paper builds
    config.pretrain.learning_rate = 0.1
    config.pretrain.weight_decay = 1e-4
    return config


def small_dataset_config(name: str) -> ConfigDict:
    """The common settings of the experiments on the small Kinect v1 datasets.

    Encoder and method are those that win on pseudo-unseen classes, and PURLS is the repaired one;
    `choose_paper_model` chooses the paper's, for which the other settings are.
    """
    config = default_config()
    config.name = name
    config.data.name = name
    config.data.frames = 32
    config.encoder.name = "kinematics"
    config.method.name = "sketch"
    config.method.purls.update(REPAIRED)
    for name in ("shift_gcn", "stgcn", "agcn", "aagcn", "ctr_gcn", "dg_stgcn"):
        config.encoder[name].width = 32
    config.encoder.posec3d.update(frames=16, size=32, width=16, blocks=(1, 1, 1))
    config.pretrain.epochs = 25
    config.pretrain.batch_size = 16
    config.fit.learning_rate = 1e-3
    config.fit.batch_size = 64
    config.fit.epochs = 150
    config.fit.patience = 25
    return config


def choose_paper_model(config: ConfigDict) -> None:
    """Chooses Shift-GCN and PURLS with the settings of the paper."""
    config.update_from_flattened_dict(PAPER_MODEL)


def load_config(file: Path) -> ConfigDict:
    """The experiment of a file such as `configs/ntu60.py`."""
    return runpy.run_path(str(file))["get_config"]()
