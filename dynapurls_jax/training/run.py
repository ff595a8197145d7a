"""A training run: inputs, encoder, tokens, method.

`<workdir>/<split>/seed<k>/` has `encoders/<name>-<hash>/` (stage 1), `tokens/<hash>/` (stage 2),
`methods/<name>-<hash>/` (stage 3), and a model file of the last trained method
(`serving.run_models`). A finished stage is restored, an interrupted one is resumed.
"""

import os
import runpy
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from data_pipelines import animation, stored
from data_pipelines.datasets import load_corpus, load_features
from data_pipelines.locks import one_at_a_time, remove_leftovers
from data_pipelines.logs import log
from data_pipelines.prepared import prepare
from data_pipelines.protocols import make_protocol, pseudo_split
from data_pipelines.settings import DataSettings
from data_pipelines.skeletons import Skeleton, map_joints
from dynapurls_jax.config_names import config_file, config_names
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.evaluation.trained_run import Inputs, TrainedRun, method_title
from dynapurls_jax.registry import from_json, plain, settings_key, settings_of
from dynapurls_jax.text.features import class_sketches, text_features
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.training.extract import extract
from dynapurls_jax.training.fit import fit_methods, method_folder
from dynapurls_jax.training.imagined import sketch_tokens
from dynapurls_jax.training.pretrain import EncoderStage, encoder_folder, encoder_identity, pretrain
from dynapurls_jax.training.processes import is_first
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.training.stages import results_of
from dynapurls_jax.zero_shot.registry import METHODS

CONFIG = "config.json"
LOCK = "training.lock"  # in the workdir
# Sections of a configuration that training depends on.
TRAINED = ("splits", "seeds", "data", "augment", "encoder", "pretrain", "text", "method", "fit")


def train_all(
    config: ConfigDict,
    workdir: Path,
    profile: bool = False,
    finished: Callable[[RunSpec, TrainedRun], None] = lambda spec, run: None,
) -> None:
    """Trains every split and seed of a configuration; finished stages are restored.

    Args:
      profile: write traces of some steps of the first run.
      finished: called with each trained run.

    Raises:
      PermissionError: the workdir is not writable; raised before any work.
      ValueError: a split does not exist; raised before any work.
    """
    check_writable(workdir)
    if len(config.seeds) > 1 and not has_randomness(config):
        log.info(f"no stage depends on the seed: only seed {config.seeds[0]} is trained")
        config.seeds = config.seeds[:1]
    inputs = read_inputs(config)
    runs = [(split, seed) for split in config.splits for seed in config.seeds]
    specs = [make_spec(inputs, workdir, split, seed) for split, seed in runs]
    specs[0] = replace(specs[0], profile=profile)
    with only_training(workdir):
        for group in groups_of(specs):
            trained = train_runs(group)
            write_config(config, workdir)
            for spec, run in zip(group, trained, strict=True):
                finished(spec, run)


@contextmanager
def only_training(workdir: Path) -> Iterator[None]:
    """Holds a workdir, in which one training runs at a time; removes what killed ones left."""
    if not is_first():
        yield
        return
    with one_at_a_time(workdir / LOCK):
        for folder in (*workdir.glob("*/seed*"), *workdir.glob("*/folds")):
            remove_leftovers(folder)
        yield


def groups_of(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Runs that are trained together: the seeds of a split if no encoder makes their tokens differ.

    Args:
      specs: runs of one configuration.
    """
    if encoder_is_trained(specs[0].config):
        return [[spec] for spec in specs]
    return [list(group) for _, group in groupby(specs, key=lambda spec: spec.split)]


def encoder_is_trained(config: ConfigDict) -> bool:
    """Whether the tokens depend on the seed."""
    return not config.data.features and ENCODERS.entry(config.encoder.name).trained


def has_randomness(config: ConfigDict) -> bool:
    """Whether a run depends on its seed: its encoder or its method is trained."""
    return encoder_is_trained(config) or METHODS.entry(config.method.name).trained


def read_inputs(config: ConfigDict) -> Inputs:
    """Reads the corpus, prints its summary, prepares clips and encodes the descriptions.

    Raises:
      DataError: files are missing or damaged.
      ValueError: a setting is wrong, or see `check_sketches`.
    """
    data = settings_of(DataSettings, config.data, "data")
    text = settings_of(TextSettings, config.text, "text")
    if data.features:
        loaded = load_features(data)
        corpus, clips, tokens = loaded.corpus, None, loaded.tokens
    else:
        corpus, tokens = load_corpus(data), None
        clips = prepare(corpus, data.frames, data.temporal_sampling, data.joints)
    log.info(corpus.summary())
    vectors, digest = text_features(text, corpus)
    sketches = class_sketches(text, corpus)
    if clips is not None and any(sketches) and METHODS.entry(config.method.name).sketches:
        check_sketches(config.method.name, clips.skeleton)
    inputs = Inputs(config, corpus, clips, vectors, digest, tokens, sketches)
    if METHODS.entry(config.method.name).words:
        _ = inputs.words  # what cannot be used is refused before any work
    return inputs


def check_sketches(method: str, skeleton: Skeleton) -> None:
    """Checks that the animated sketches can be mapped to the joints of a dataset.

    Raises:
      ValueError: they cannot; the message has the option to continue without sketches.
    """
    figure = animation.SKELETON
    try:
        map_joints(np.zeros((1, figure.num_joints, 3)), figure, skeleton)
    except ValueError as error:
        raise ValueError(
            f"method {method} animates motion sketches with the joints of {figure.name}: {error}; "
            "remove the sketches from the descriptions, or set --config.method.name=ridge"
        ) from None


def make_spec(inputs: Inputs, workdir: Path, split: str, seed: int) -> RunSpec:
    """The run of one split and seed.

    Raises:
      ValueError: the split does not exist.
    """
    protocol = make_protocol(inputs.corpus, split, inputs.config.data.protocol)
    return RunSpec(inputs, split, seed, protocol, workdir / split / f"seed{seed}")


def train_run(spec: RunSpec) -> TrainedRun:
    """Runs the stages of one split and seed; finished stages are restored."""
    return train_runs([spec])[0]


def train_runs(specs: Sequence[RunSpec]) -> list[TrainedRun]:
    """Runs the stages of runs with the same split and tokens; finished stages are restored.

    Args:
      specs: one of the `groups_of` runs.
    """
    encoded = [_encoded(spec) for spec in specs]
    stage, tokens = encoded[0]
    sketches = sketch_tokens(specs[0], stage, tokens)
    fitted = fit_methods(specs, tokens, sketches, [stage.identity for stage, _ in encoded])
    return [
        TrainedRun(
            inputs=spec.inputs,
            split=spec.split,
            seed=spec.seed,
            protocol=spec.protocol,
            method=method,
            variables=variables,
            tokens=tokens.reshape(len(tokens), -1, tokens.shape[-1]),
            token_shape=tokens.shape[1:],
            encoder=stage.encoder,
            results={"encoder": stage.results or None, "method": results},
            sketch_tokens=sketches,
        )
        for spec, (stage, _), (method, variables, results) in zip(
            specs, encoded, fitted, strict=True
        )
    ]


def _encoded(spec: RunSpec) -> tuple[EncoderStage, np.ndarray]:
    """Stages 1 and 2: the encoder, and the tokens of all clips."""
    protocol, inputs = spec.protocol, spec.inputs
    log.info(
        f"{spec.folder}: {len(protocol.seen)} seen and {len(protocol.unseen)} unseen classes; "
        f"clips: {len(protocol.train)} train, {len(protocol.val)} validation, "
        f"{len(protocol.seen_test)} seen test, {len(protocol.unseen_test)} unseen test"
    )
    if inputs.features is not None:
        return EncoderStage(None, features_identity(spec), {}), inputs.features
    stage = pretrain(spec)
    return stage, extract(spec, stage)


def features_identity(spec: RunSpec) -> dict:
    """The identity of tokens that are read from a folder of features."""
    return {"features": spec.inputs.corpus.digest}


def tokens_identity(spec: RunSpec) -> dict | None:
    """The identity of a run's tokens; None while the encoder stage is not finished."""
    if spec.inputs.clips is None:
        return features_identity(spec)
    identity = encoder_identity(spec)
    if not ENCODERS.entry(spec.config.encoder.name).trained:
        return identity
    results = results_of(encoder_folder(spec))
    return None if results is None else identity | {"weights": results["weights"]}


def is_trained(spec: RunSpec) -> bool:
    """Whether all stages of a run are finished with this configuration."""
    identity = tokens_identity(spec)
    return identity is not None and results_of(method_folder(spec, identity)) is not None


def load_run(inputs: Inputs, workdir: Path, split: str, seed: int) -> TrainedRun:
    """Restores a trained run.

    Raises:
      FileNotFoundError: the run is not trained with this configuration; the message has the
        command that trains it.
    """
    spec = make_spec(inputs, workdir, split, seed)
    if is_trained(spec):
        return train_run(spec)
    config = inputs.config
    encoder = "" if tokens_identity(spec) else f"encoder {config.encoder.name} and "
    raise FileNotFoundError(
        f"{spec.folder} has no finished {encoder}method {method_title(config)} of this "
        f"configuration; train it with\n  {train_command(config, workdir)}"
    )


def load_pseudo_runs(inputs: Inputs, workdir: Path, split: str) -> list[TrainedRun]:
    """The trained runs of a split's pseudo split, sorted by seed; GZSL gates are fitted on them.

    Raises:
      FileNotFoundError: there is none; the message has the command that trains one.
    """
    pseudo = pseudo_split(split)
    seeds = trained_seeds(inputs, workdir, pseudo)
    if seeds:
        return [load_run(inputs, workdir, pseudo, seed) for seed in seeds]
    config = inputs.config
    trained = sorted({folder.parent.name for folder in workdir.glob("*/seed*")})
    # All splits: without --split, the splits of the last training are evaluated.
    splits = tuple(dict.fromkeys([*config.splits, *trained, pseudo]))
    raise FileNotFoundError(
        f"{workdir / pseudo}: no trained run to fit the gate of split {split} on; train it with\n"
        f"  {train_command(config, workdir, splits)}"
    )


def trained_seeds(inputs: Inputs, workdir: Path, split: str) -> tuple[int, ...]:
    """Sorted seeds of a split's runs that are trained with this configuration."""
    names = [folder.name[4:] for folder in (workdir / split).glob("seed*")]
    seeds = sorted(int(name) for name in names if name.isdecimal())
    return tuple(s for s in seeds if is_trained(make_spec(inputs, workdir, split, s)))


def train_command(config: ConfigDict, workdir: Path, splits: tuple[str, ...] = ()) -> str:
    """The command that trains a configuration, with all values that differ from its file.

    Args:
      splits: splits to train; default: the configuration's.
    """
    values = flatten_dict(plain(config, *TRAINED), sep=".")
    if splits:
        values["splits"] = list(splits)
    name, default = "FILE", values  # a file of the user: its values are unknown
    if config.name in config_names():
        name = config.name
        loaded = runpy.run_path(config_file(name))["get_config"]()
        default = flatten_dict(plain(loaded, *TRAINED), sep=".")
    # These options are always given.
    query = f"method.{settings_key(config.method.name)}.query"
    always = ("splits", "method.name", query, *(() if config.data.features else ("encoder.name",)))
    options = [f"--config={name}", f"--workdir={workdir}"]
    for key, value in values.items():
        if key in always or value != default.get(key):
            options.append(f"--config.{key}={_typed(value)}")
    return shlex.join(["dynapurls", "train", *options])


def _typed(value: Any) -> str:
    """A value of a configuration as users type it."""
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(map(str, value))
    return str(from_json(value))


def check_writable(workdir: Path) -> None:
    """Checks that a workdir is writable, before hours of work.

    Raises:
      PermissionError: the workdir, or its first existing parent, is not a writable folder.
    """
    there = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise PermissionError(f"workdir {workdir}: {there} is no folder that can be written to")


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes the configuration; called after a run, so that a failed one does not replace it."""
    stored.write_json(workdir / CONFIG, plain(config, *config))
