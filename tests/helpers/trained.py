"""A small trained workdir: a two-layer encoder on a small corpus, with random text."""

import dataclasses

import jax
import numpy as np

from data_pipelines.prepared import prepare
from dynapurls_jax.config import default_config
from dynapurls_jax.evaluation.trained_run import Inputs, TrainedRun
from dynapurls_jax.training.run import load_run, make_spec, train_run, write_config
from dynapurls_jax.zero_shot.base import unit
from tests.helpers.corpora import tiny_corpus

SPLIT = "random-6_2-0"
TWO_LAYERS = ((1, 2), (2, 2))


def small_config():
    """The configuration of the small workdir."""
    config = default_config()
    config.name = "small"
    config.splits = (SPLIT,)
    config.data.name = "utd_mhad"
    config.data.frames = 8
    config.encoder.shift_gcn.width = 8
    config.encoder.shift_gcn.layers = TWO_LAYERS
    config.pretrain.epochs = 2
    config.pretrain.batch_size = 8
    config.method.purls.attention = 8
    config.method.purls.hidden = 16
    config.fit.epochs = 4
    config.fit.batch_size = 8
    config.adapter.name = "dynapurls"
    config.adapter.dynapurls.min_samples = 2
    config.eval.orders = 2
    return config


def small_inputs(config=None, text_width=12, **corpus_changes) -> Inputs:
    """Inputs without files: a corpus of smooth random clips, and random text embeddings.

    Args:
      text_width: width of the text encoder, if words or new classes are encoded.
    """
    config = config or small_config()
    corpus = dataclasses.replace(tiny_corpus(), **corpus_changes)
    text = unit(jax.random.normal(jax.random.key(7), (8, 8, text_width)))
    clips = prepare(corpus, config.data.frames, config.data.temporal_sampling)
    return Inputs(config, corpus, clips, np.asarray(text), "texts")


def train_small(inputs: Inputs, workdir, split=SPLIT, seed=0) -> TrainedRun:
    """Trains one run, or restores it."""
    return train_run(make_spec(inputs, workdir, split, seed))


def build_workdir(workdir) -> None:
    """Trains the shared workdir, with a run of a pseudo split for gates."""
    inputs = small_inputs()
    train_small(inputs, workdir)
    train_small(inputs, workdir, f"pseudo-{SPLIT}-0")
    write_config(inputs.config, workdir)


def load_small(workdir, config=None, split=SPLIT, seed=0) -> TrainedRun:
    """Loads a run of the shared workdir."""
    return load_run(small_inputs(config), workdir, split, seed)
