"""Diagnosis of a run: cosines between rows, entropy of attention, separability of tokens."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sklearn.metrics import pairwise_distances_argmin
from sklearn.preprocessing import StandardScaler

from dynapurls_jax.adaptation.api import zero_unusable
from dynapurls_jax.evaluation.tasks import ORACLE, Task
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.zero_shot.base import Candidates, Variables, ZeroShotMethod

MAX_CLIPS = 500  # bounds the time of the nearest-neighbour search
FOLDS = 4


def diagnose(run: TrainedRun, task: Task) -> dict[str, float]:
    """Computes the measures of a run, name to value, on at most `MAX_CLIPS` evenly spaced clips.

    For every method: how well tokens separate the unseen classes (`supervised_accuracy`). For
    methods with attention also: the mean cosine between the projected rows of a clip (1 if all
    granularities have the same vector) and between the rows of a text; for each granularity the
    entropy of attention divided by log S (1 if attention is uniform). Non-finite clips are set to
    zero.

    Args:
      task: the task of the run's unseen test clips.
    """
    count = min(len(task.labels), MAX_CLIPS)
    shown = np.linspace(0, len(task.labels) - 1, count).astype(int)
    tokens = np.array(run.tokens[run.protocol.unseen_test[shown]], np.float32)
    usable = np.isfinite(tokens).all(axis=(1, 2))
    tokens[~usable] = 0.0
    measures = {}
    if has_rows(run.method):
        features = jax.tree.map(lambda leaf: leaf[shown], task.features)
        features = zero_unusable(features, jnp.asarray(usable))
        rows, entropy = _rows_and_entropy(run.method, run.variables, features, task.candidates)
        measures["cosine between rows, projected"] = mean_cosine(np.asarray(rows))
        measures["cosine between rows, text"] = mean_cosine(run.inputs.text[task.class_ids])
        for name, value in zip(GRANULARITIES, entropy.tolist(), strict=True):
            measures[f"attention entropy / log S, {name}"] = value
    nearest, means = supervised_accuracy(tokens, task.labels[shown])
    measures[f"{ORACLE}: supervised accuracy, 1-NN"] = nearest
    measures[f"{ORACLE}: supervised accuracy, class means"] = means
    return measures


def has_rows(method: ZeroShotMethod) -> bool:
    """Whether a method has attention and an embedding for each description, without labels."""
    parts = method.attend, method.embedding
    return method.oracle is None and all(part is not None for part in parts)


def mean_cosine(vectors: Float[np.ndarray, "N G e"]) -> float:
    """Mean cosine, in [-1, 1], over pairs of different rows of each clip; rows are unit vectors."""
    first, second = np.triu_indices(vectors.shape[1], 1)
    return float((vectors @ vectors.swapaxes(1, 2))[:, first, second].mean())


def supervised_accuracy(
    tokens: Float[np.ndarray, "N S n"], labels: Int[np.ndarray, " N"]
) -> tuple[float, float]:
    """ORACLE: supervised accuracy in [0, 1] of 1-NN and of nearest class means.

    Four-fold cross-validation, stratified by class. A clip of a class without clips in the other
    folds is a miss. Distances are Euclidean, between standardised tokens.
    """
    flat = StandardScaler().fit_transform(tokens.reshape(len(tokens), -1))
    folds = np.empty(len(labels), int)
    for c in np.unique(labels):
        of_class = np.flatnonzero(labels == c)
        folds[of_class] = np.arange(len(of_class)) * FOLDS // len(of_class)
    hits = np.zeros((2, len(labels)), bool)
    for fold in range(FOLDS):
        held, known = folds == fold, folds != fold
        if held.any() and known.any():
            classes = np.unique(labels[known])
            means = np.stack([flat[known & (labels == c)].mean(axis=0) for c in classes])
            nearest = labels[known][pairwise_distances_argmin(flat[held], flat[known])]
            of_means = classes[pairwise_distances_argmin(flat[held], means)]
            hits[:, held] = np.stack([nearest, of_means]) == labels[held]
    return float(hits[0].mean()), float(hits[1].mean())


@partial(jax.jit, static_argnums=0)
def _rows_and_entropy(
    model: ZeroShotMethod, variables: Variables, features: Any, candidates: Candidates
) -> tuple[Float[Array, "B R e"], Float[Array, " G"]]:
    """Projected rows (those of the first class if classes have their own), and entropy / log S."""
    assert model.embedding is not None
    assert model.attend is not None
    rows = model.embedding.embed(variables, features, candidates)[:, 0]
    shares = model.attend(variables, features, candidates)
    entropy = jax.scipy.special.entr(shares).sum(axis=-1) / jnp.log(shares.shape[-1])
    return rows, entropy.mean(axis=(0, 1))
