"""Generalised zero-shot recognition: fitting a gate on pseudo-unseen classes, and the metrics.

A gate is fitted on clips that are in no test set: validation clips of seen classes, and clips of
pseudo-unseen classes, which a pseudo run excludes from its seen classes. The metrics compare
finished predictions with labels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from dynapurls_jax.adaptation.gated import Gate, Weights, gate_score
from dynapurls_jax.adaptation.logistic_gate import logistic_inputs
from dynapurls_jax.evaluation.logistic_fit import fit_weights, folds_of, held_out_scores
from dynapurls_jax.evaluation.metrics import accuracy

TABLE_9 = ("Baseline", "Partial", "Full")  # rows of the paper's table
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # relative to the temperature of the model


class PseudoClips(NamedTuple):
    """The clips of one pseudo run on which a gate is fitted, scored by the static model.

    Attributes:
      logits: of validation clips of seen classes and of clips of pseudo-unseen classes; minus
        infinity for all other classes, among them the unseen ones.
      labels: class ids of the corpus.
      seen: whether a class is seen in the pseudo run.
    """

    logits: Float[np.ndarray, "N C"]
    labels: Int[np.ndarray, " N"]
    seen: Bool[np.ndarray, " C"]

    @property
    def of_seen(self) -> Bool[np.ndarray, " N"]:
        """Whether the class of a clip is seen."""
        return self.seen[self.labels]

    @property
    def unseen_classes(self) -> int:
        """The number of pseudo-unseen classes."""
        return int((np.isfinite(self.logits).any(axis=0) & ~self.seen).sum())


class GateFit(NamedTuple):
    """The fitted parameters of a gate, which `gate_of` transfers to another model.

    Attributes:
      score: name in `adaptation.registry.GATES`.
      temperature: temperature of the score.
      kept: share of validation clips of seen classes that stay on the seen side.
      harmonic: `H` of this fit on the pseudo clips, in [0, 1].
      seen_clips, unseen_clips: numbers of clips of either side.
      weights: weights of the logistic gate; empty for the others.
    """

    score: str
    temperature: float
    kept: float
    harmonic: float
    seen_clips: int
    unseen_clips: int
    weights: Weights = ()


class Generalised(NamedTuple):
    """Section 4.1.2: accuracy on clips of seen and of unseen classes, and their harmonic mean."""

    seen: float
    unseen: float
    harmonic: float


def harmonic_mean(seen, unseen):
    """`2 S U / (S + U)`, elementwise; 0 where both are 0."""
    seen, unseen = np.asarray(seen, float), np.asarray(unseen, float)
    total = seen + unseen
    return np.divide(2 * seen * unseen, total, out=np.zeros_like(total), where=total > 0)


def generalised_accuracy(
    predicted: Int[np.ndarray, " N"], labels: Int[np.ndarray, " N"], seen: Bool[np.ndarray, " C"]
) -> Generalised:
    """Top-1 accuracy in [0, 1] of each side, among all classes; a clip on the wrong side is a miss.

    Args:
      predicted, labels: class ids of the corpus.
    """
    of_seen = seen[labels]
    s = accuracy(predicted[of_seen], labels[of_seen])
    u = accuracy(predicted[~of_seen], labels[~of_seen])
    return Generalised(s, u, float(harmonic_mean(s, u)))


def table_9(
    full: Int[np.ndarray, "orders N"],
    logits: Float[np.ndarray, "orders N C"],
    seen: Bool[np.ndarray, " C"],
) -> dict[str, Int[np.ndarray, "orders N"]]:
    """Predictions of the rows of the paper's Table 9, all with the same gate.

    The gate does not learn, and the sides are independent. The prediction of a side without
    refinement is therefore the static model's best class of that side.

    Args:
      full: predicted class ids with both sides refined; -1 for a skipped sample.
      logits: logits of the static model.

    Raises:
      ValueError: a sample was skipped.
    """
    if (full < 0).any():
        raise ValueError(f"{int((full < 0).sum())} test samples are not finite; expected none")
    to_seen = seen[full]
    best_seen = np.where(seen, logits, -np.inf).argmax(axis=-1)
    best_unseen = np.where(seen, -np.inf, logits).argmax(axis=-1)
    baseline = np.where(to_seen, best_seen, best_unseen)
    partial = np.where(to_seen, full, baseline)
    return dict(zip(TABLE_9, (baseline, partial, full), strict=True))


def scores_of(
    name: str,
    logits: Float[np.ndarray, "N C"],
    seen: Bool[np.ndarray, " C"],
    temperature: float,
    weights: Weights = (),
) -> Float[np.ndarray, " N"]:
    """The scores of a gate; a clip with a score above the threshold goes to the unseen side."""
    scores = gate_score(name, jnp.asarray(logits), jnp.asarray(seen), temperature, weights)
    return np.asarray(scores)


def gate_of(fit: GateFit, held_out: Float[np.ndarray, "N C"], seen: Bool[np.ndarray, " C"]) -> Gate:
    """The gate of a model; its threshold keeps the fitted share of validation clips.

    The threshold itself is not transferred, since models differ in confidence.

    Args:
      held_out: static logits of the model for validation clips of seen classes.
    """
    scores = scores_of(fit.score, held_out, seen, fit.temperature, fit.weights)
    threshold = float(np.quantile(scores, fit.kept, method="inverted_cdf"))
    return Gate(fit.score, fit.temperature, threshold, fit.weights)


def fit_gate(name: str, runs: Sequence[PseudoClips]) -> GateFit:
    """Fits the temperature and the share of kept validation clips that have the highest `H`.

    The clips of all runs are pooled by their ranks among the validation clips of their runs. The
    search over shares is exhaustive. Among equal optima the middle temperature is chosen, then the
    middle share. The logistic gate is ranked by cross-validated scores, since scores on its own
    training clips are too well separated.

    Args:
      name: one of `adaptation.registry.GATES`.
      runs: the runs of one pseudo split.

    Raises:
      ValueError: the name is unknown, a run has no clips on one side, all scores are equal, or
        there are too few clips for the logistic gate.
    """
    for run in runs:
        if run.of_seen.all() or not run.of_seen.any():
            raise ValueError(
                f"gate {name!r}: expected clips of seen and of pseudo-unseen classes for the fit, "
                f"got {run.of_seen.sum()} and {(~run.of_seen).sum()}"
            )
    temperatures = TEMPERATURES if name != "stacking" else (1.0,)
    ranks = np.stack([_ranks(name, runs, temperature) for temperature in temperatures])
    of_seen = np.concatenate([run.of_seen for run in runs])
    harmonic = _harmonics(ranks, np.concatenate([_hits(run) for run in runs]), of_seen)
    if harmonic.max() < 0:
        raise ValueError(
            f"gate {name!r}: expected different scores for the fit, all {len(of_seen)} are equal"
        )
    of_temperature, of_rank = np.nonzero(harmonic == harmonic.max())
    best = _middle(np.unique(of_temperature))
    rank = _middle(of_rank[of_temperature == best])
    return GateFit(
        score=name,
        temperature=temperatures[best],
        kept=float(np.sort(ranks[best])[rank : rank + 2].mean()),
        harmonic=float(harmonic.max()),
        seen_clips=int(of_seen.sum()),
        unseen_clips=int((~of_seen).sum()),
        weights=_weights(runs, temperatures[best]) if name == "logistic" else (),
    )


def _ranks(name: str, runs: Sequence[PseudoClips], temperature: float) -> Float[np.ndarray, " N"]:
    """For each clip of all runs, the share of its run's validation clips with a lower score."""
    if name == "logistic":
        scores = _held_out_scores(runs, temperature)
    else:
        scores = [scores_of(name, run.logits, run.seen, temperature) for run in runs]
    ranks = []
    for run, of_run in zip(runs, scores, strict=True):
        held_out = np.sort(of_run[run.of_seen])
        ranks.append(np.searchsorted(held_out, of_run) / len(held_out))
    return np.concatenate(ranks)


def _logistic_task(
    runs: Sequence[PseudoClips], temperature: float
) -> tuple[Float[np.ndarray, "N m"], Bool[np.ndarray, " N"]]:
    """Inputs of the logistic gate for the clips of all runs, and which are pseudo-unseen."""
    inputs = [
        logistic_inputs(
            jnp.asarray(run.logits), jnp.asarray(run.seen), temperature, run.unseen_classes
        )
        for run in runs
    ]
    return np.concatenate(inputs), ~np.concatenate([run.of_seen for run in runs])


def _weights(runs: Sequence[PseudoClips], temperature: float) -> Weights:
    """The weights of the logistic gate, fitted on all clips."""
    return fit_weights(*_logistic_task(runs, temperature))


def _held_out_scores(
    runs: Sequence[PseudoClips], temperature: float
) -> list[Float[np.ndarray, " N"]]:
    """Cross-validated scores of the logistic gate for the clips of each run.

    The runs have the same clips; all copies of a clip are in the same fold.
    """
    folds = np.concatenate([folds_of(~run.of_seen) for run in runs])
    scores = held_out_scores(*_logistic_task(runs, temperature), folds)
    return np.split(scores, np.cumsum([len(run.labels) for run in runs])[:-1])


def _hits(run: PseudoClips) -> Bool[np.ndarray, " N"]:
    """Whether a clip is recognised among the classes of its true side."""
    own_side = np.where(run.of_seen[:, None] == run.seen, run.logits, -np.inf)
    return own_side.argmax(axis=1) == run.labels


def _harmonics(
    ranks: Float[np.ndarray, "grid N"],
    hits: Bool[np.ndarray, " N"],
    of_seen: Bool[np.ndarray, " N"],
) -> Float[np.ndarray, "grid N-1"]:
    """`H` for thresholds between neighbouring ranks; -1 between equal ranks."""
    order = np.argsort(ranks, axis=1)
    ordered = np.take_along_axis(ranks, order, axis=1)
    below = np.cumsum((hits & of_seen)[order], axis=1)[:, :-1]  # hits on the seen side
    unseen_hits = hits & ~of_seen
    above = unseen_hits.sum() - np.cumsum(unseen_hits[order], axis=1)[:, :-1]
    harmonic = harmonic_mean(below / of_seen.sum(), above / (~of_seen).sum())
    return np.where(ordered[:, :-1] < ordered[:, 1:], harmonic, -1.0)


def _middle(ascending: np.ndarray) -> int:
    return int(ascending[(len(ascending) - 1) // 2])
