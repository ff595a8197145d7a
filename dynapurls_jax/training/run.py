"""The stages of one training run, in order, each skipped if done and resumed if begun.

`<workdir>/<split>/seed<k>/`: `encoder/` (stage 1), `tokens/` (stage 2), `align-<query>/` (stage 3).
"""

import json
import os
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from data_pipelines.corpus import Corpus
from data_pipelines.datasets import load_corpus
from data_pipelines.errors import unknown
from data_pipelines.formats.feature_folder import read_features
from data_pipelines.dataset_info import KNOWN
from data_pipelines.prepared import PreparedClips, prepare
from data_pipelines.protocols import Protocol, make_protocol
from dynapurls_jax.zero_shot.nn.partition import static_pool
from dynapurls_jax.config import plain
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.text.features import text_features
from dynapurls_jax.training import align, pretrain
from dynapurls_jax.training.checkpoints import Checkpoints, tree_digest
from dynapurls_jax.training.extract import accuracy, token_store
from dynapurls_jax.training.stages import CheckpointError, Stage, stage_is_done, write_whole

CONFIG = "config.json"
PLACES = ("manual_dir", "skip_bad")  # say where data is, not what: the corpus's digest does


@dataclass(frozen=True)
class Inputs:
    """What all runs of a configuration share.

    Attributes:
      clips: None where features were brought and no encoder is trained.
      features: tokens that were brought, `[N, T', V, n]`; None where an encoder makes them.
      profile: write traces of some training steps.
    """

    config: ConfigDict
    corpus: Corpus
    clips: PreparedClips | None
    text: Float[np.ndarray, "C G d"]
    text_digest: str
    features: np.ndarray | None = None
    profile: bool = False


@dataclass(frozen=True)
class TrainedRun:
    """One split and seed, ready to be evaluated.

    Attributes:
      variables: of the alignment model.
      tokens: of every clip of the corpus, `[N, S, n]`, on the host and mostly on disk.
      results: what the stages reported.
    """

    split: str
    seed: int
    protocol: Protocol
    variables: dict
    tokens: Float[np.ndarray, "N S n"]
    results: dict

    def tokens_of(self, rows: np.ndarray) -> Float[Array, "B S n"]:
        """The tokens of some clips, float32 on the device."""
        return on_device(self.tokens, rows)


def on_device(tokens: Float[np.ndarray, "N S n"], rows: np.ndarray) -> Float[Array, "B S n"]:
    """Some of the tokens that are on the host, float32 on the device."""
    return jnp.asarray(tokens[rows], jnp.float32)


def load_inputs(config: ConfigDict) -> Inputs:
    """Reads the corpus, prints its summary, prepares clips and encodes the descriptions."""
    data = config.data
    if data.features:
        if data.name not in KNOWN:
            raise unknown("dataset of data.features", data.name, KNOWN)
        skeleton, names = KNOWN[data.name]
        brought = read_features(Path(data.features), data.name, names, skeleton)
        corpus, clips, tokens = brought.corpus, None, brought.tokens
    else:
        corpus, tokens = load_corpus(data.name, data.manual_dir, data.seed, data.skip_bad), None
        clips = prepare(corpus, data.frames, data.fit, data.joints)
    print(corpus.summary(), flush=True)
    text, digest = text_features(config.text, corpus)
    return Inputs(config, corpus, clips, text, digest, tokens)


def run_folder(workdir: Path, split: str, seed: int) -> Path:
    """Where one run keeps its stages."""
    return workdir / split / f"seed{seed}"


def train_all(config: ConfigDict, workdir: Path, profile: bool = False) -> None:
    """Trains every split and seed of a configuration; what is done already is only checked.

    Args:
      profile: write traces of some steps of the first run.

    Raises:
      PermissionError: the workdir cannot be written to; said before any work.
    """
    check_writable(workdir)
    inputs = load_inputs(config)
    for split in config.splits:
        make_protocol(
            inputs.corpus, split, config.data.protocol
        )  # a wrong name must not surface after hours
    for split in config.splits:
        for seed in config.seeds:
            first = (split, seed) == (config.splits[0], config.seeds[0])
            train_one(replace(inputs, profile=profile and first), workdir, split, seed)
            write_config(config, workdir)


def check_writable(workdir: Path) -> None:
    """Refuses, before hours of work, a workdir that could not keep it.

    Raises:
      PermissionError: it, or the folder in which it would be made, cannot be written to.
    """
    there = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise PermissionError(f"workdir {workdir}: {there} is no folder that can be written to")


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Records the configuration; only after a run, so that a refused one never replaces it."""
    write_whole(workdir / CONFIG, json.dumps(plain(config, *config), indent=1))


def load_trained(inputs: Inputs, workdir: Path, split: str, seed: int) -> TrainedRun:
    """A run that is done already.

    Raises:
      FileNotFoundError: it is not trained, or not with this query; says how to train it.
    """
    folder = run_folder(workdir, split, seed)
    if missing := _unfinished(inputs, folder):
        raise FileNotFoundError(
            f"{folder} has no finished stage {missing[0]}; train it with\n"
            f"  python -m dynapurls_jax.train --config=configs/{inputs.config.name}.py "
            f"--workdir={workdir} --config.alignment.query={inputs.config.alignment.query}"
        )
    return train_one(inputs, workdir, split, seed)


def trained_seeds(inputs: Inputs, workdir: Path, split: str) -> tuple[int, ...]:
    """Seeds of a split's runs that are done already, with this query; sorted."""
    folders = [f for f in (workdir / split).glob("seed*") if f.name[4:].isdecimal()]
    return tuple(sorted(int(f.name[4:]) for f in folders if not _unfinished(inputs, f)))


def _unfinished(inputs: Inputs, folder: Path) -> list[str]:
    """The stages that a run still lacks before it can be evaluated."""
    aligned = f"align-{inputs.config.alignment.query}"
    stages = (aligned,) if inputs.clips is None else ("encoder", aligned)
    return [stage for stage in stages if not stage_is_done(folder / stage)]


def train_one(
    inputs: Inputs, workdir: Path, split: str, seed: int, variant: str = ""
) -> TrainedRun:
    """One split and seed through the three stages.

    Args:
      variant: names a changed alignment: a folder of its own, beside the run's own alignment and
        on the same encoder.
    """
    protocol = make_protocol(inputs.corpus, split, inputs.config.data.protocol)
    folder = run_folder(workdir, split, seed)
    print(
        f"{folder}: {len(protocol.seen)} seen and {len(protocol.unseen)} unseen classes; clips: "
        f"{len(protocol.train)} train, {len(protocol.val)} validation, "
        f"{len(protocol.seen_test)} seen test, {len(protocol.unseen_test)} unseen test",
        flush=True,
    )
    tokens, tokens_identity, encoder_results = encode_stages(inputs, protocol, folder, seed)
    aligns = folder / variant
    variables, aligned = align_stage(inputs, protocol, aligns, seed, tokens, tokens_identity)
    results = {"encoder": encoder_results, "align": aligned.results}
    return TrainedRun(split, seed, protocol, variables, tokens, results)


def encode_stages(
    inputs: Inputs, protocol: Protocol, folder: Path, seed: int
) -> tuple[Float[np.ndarray, "N S n"], dict, dict | None]:
    """Stages 1 and 2, or the tokens that were brought.

    Returns:
      Tokens of all clips, what they were made from, and the encoder's results if it was trained.
    """
    if inputs.clips is None:
        return _flat(inputs.features), {"checkpoint": inputs.corpus.digest}, None
    variables, stage = encoder_stage(inputs, inputs.clips, protocol, folder, seed)
    tokens, identity = _token_stage(inputs, folder, variables, stage.identity)
    return tokens, identity, stage.results


def encoder_stage(
    inputs: Inputs, clips: PreparedClips, protocol: Protocol, folder: Path, seed: int
) -> tuple[dict, Stage]:
    """Stage 1 in `folder / "encoder"`: encoder variables, and the stage with its results."""
    config, corpus = inputs.config, inputs.corpus
    identity = plain(config, "augment", "encoder", "pretrain") | {
        "data": {k: v for k, v in plain(config, "data")["data"].items() if k not in PLACES},
        "corpus": corpus.digest,
        "prepared": clips.version,
        "split": protocol.split,
        "seed": seed,
    }
    stage = Stage(folder / "encoder", identity)
    num_seen = len(protocol.seen)
    labels = np.searchsorted(protocol.seen, corpus.labels)  # meaningful for seen clips only
    with closing(_open_checkpoints(stage)) as checkpoints:
        # For a finished stage this only restores the last epoch.
        variables = pretrain.pretrain(
            *(config, clips, protocol.train, labels, num_seen, seed, checkpoints),
            folder=stage.folder,
            profile=inputs.profile,
        )
    if stage.results is None:
        shares = {
            name: accuracy(config, variables, clips, index, labels[index])
            for name, index in (("val", protocol.val), ("seen_test", protocol.seen_test))
        }
        stage.finish({f"{name}_accuracy": share for name, share in shares.items()})
    results = stage.results or {}
    print(f"  encoder: seen validation accuracy {results['val_accuracy']:.3f}", flush=True)
    return variables, stage


def _open_checkpoints(stage: Stage) -> Checkpoints:
    """The stage's checkpoints; a finished stage must still have them."""
    checkpoints = Checkpoints(stage.folder / "checkpoints")
    if stage.results is not None and checkpoints.latest() is None:
        raise CheckpointError(
            f"{stage.folder} is finished but its checkpoint is gone; delete the folder to train it "
            "again"
        )
    return checkpoints


def _token_stage(inputs, folder, variables, encoder_identity):
    made_from = encoder_identity | {"checkpoint": tree_digest(variables)}
    store = folder / "tokens"
    return _flat(token_store(store, made_from, inputs.config, variables, inputs.clips)), made_from


def _flat(tokens) -> Float[np.ndarray, "N S n"]:
    """`[N, T', V, n]` to `[N, S, n]`, still where it was."""
    return tokens.reshape(len(tokens), -1, tokens.shape[-1])


def align_stage(
    inputs: Inputs,
    protocol: Protocol,
    folder: Path,
    seed: int,
    tokens: Float[np.ndarray, "N S n"],
    tokens_identity: dict,
) -> tuple[dict, Stage]:
    """Stage 3 in `folder / "align-<query>"`: alignment variables, and its stage with results."""
    config = inputs.config
    text = jnp.asarray(inputs.text[protocol.seen])
    identity = plain(config, "alignment") | {
        "tokens": tokens_identity["checkpoint"],
        "texts": inputs.text_digest,
        "seed": seed,
    }
    stage = Stage(folder / f"align-{config.alignment.query}", identity)
    labels = np.searchsorted(protocol.seen, inputs.corpus.labels)
    sides = (protocol.train, protocol.val)
    train, val = (align.Samples(tokens[rows], labels[rows]) for rows in sides)
    with closing(_open_checkpoints(stage)) as checkpoints:
        variables, results = align.align(
            *(config, train, val, [inputs.corpus.clip_ids[row] for row in protocol.train]),
            *(text, seed, checkpoints, stage.folder),
            pool=partition_of(inputs, tokens.shape[1]),
            profile=inputs.profile,
        )
    if stage.results is None:
        stage.finish(results)
    print(
        f"  alignment ({config.alignment.query}): seen validation "
        f"{results['val_accuracy']:.3f} at epoch {results['best_epoch']}",
        flush=True,
    )
    return jax.device_put(variables), stage


def partition_of(inputs: Inputs, tokens: int) -> Float[np.ndarray, "G S"] | None:
    """The pool of a static partition; None for an adaptive one.

    Args:
      tokens: `S`.

    Raises:
      ValueError: they are not of joints, as those of pooled features.
    """
    if inputs.config.alignment.partition == "adaptive":
        return None
    joints = skeleton_of(inputs).num_joints
    if tokens % joints:
        raise ValueError(
            f"alignment.partition=static needs tokens of joints: expected a multiple of {joints} "
            f"({skeleton_of(inputs).name}), got {tokens}"
        )
    return static_pool(skeleton_of(inputs), tokens // joints)


def skeleton_of(inputs: Inputs) -> Skeleton:
    """The joints that tokens are of."""
    return inputs.corpus.skeleton if inputs.clips is None else inputs.clips.skeleton
