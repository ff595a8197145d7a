"""Generalised zero-shot recognition: the gate's fit on pseudo-unseen classes, and the metrics.

The fit takes clips outside of every report: held-out clips of seen classes, and clips of classes
that a pseudo run left out of its seen ones. The metrics take finished predictions.
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

TABLE_9 = ("Baseline", "Partial", "Full")  # its rows
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # in units of the model's own


class PseudoClips(NamedTuple):
    """The clips of one pseudo run on which a gate is fitted, scored by the static model.

    Attributes:
      logits: of held-out clips of its seen classes and of clips of its pseudo-unseen ones; minus
        infinity for every other class, as for the really unseen ones.
      labels: global class ids.
      seen: whether a class is a seen one of the pseudo run.
    """

    logits: Float[np.ndarray, "N C"]
    labels: Int[np.ndarray, " N"]
    seen: Bool[np.ndarray, " C"]

    @property
    def of_seen(self) -> Bool[np.ndarray, " N"]:
        """Whether a clip's class is a seen one."""
        return self.seen[self.labels]

    @property
    def unseen_classes(self) -> int:
        """The number of pseudo-unseen classes."""
        return int((np.isfinite(self.logits).any(axis=0) & ~self.seen).sum())


class GateFit(NamedTuple):
    """The fit of a gate, in terms that transfer to another model; see `gate_of`.

    Attributes:
      score: name in `adaptation.registry.GATES`.
      kept: the share of held-out seen clips that stay on the seen side.
      harmonic: the highest `H` on the pseudo clips.
      seen_clips, unseen_clips: the number of these clips.
      weights: of the logistic gate; empty for the others.
    """

    score: str
    temperature: float
    kept: float
    harmonic: float
    seen_clips: int
    unseen_clips: int
    weights: Weights = ()


class Generalised(NamedTuple):
    """Section 4.1.2: accuracies of the seen and the unseen clips, and their harmonic mean."""

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
    """Top-1 accuracy of each side, over all classes: a clip on the wrong side is a miss.

    Args:
      predicted, labels: global class ids.
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
    """Predictions of the rows of the paper's Table 9, all behind the same gate.

    The gate does not learn and the sides are independent. So the prediction of a side without
    refinement is the static model's best class of that side.

    Args:
      full: predictions with both sides refined.
      logits: of the static model.

    Raises:
      ValueError: a sample was skipped, so that it is on no side.
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
    """The scores of a gate."""
    scores = gate_score(name, jnp.asarray(logits), jnp.asarray(seen), temperature, weights)
    return np.asarray(scores)


def gate_of(fit: GateFit, held_out: Float[np.ndarray, "N C"], seen: Bool[np.ndarray, " C"]) -> Gate:
    """The gate for a model: its threshold keeps as many held-out seen clips as the fit says.

    Two models differ in confidence, so the threshold of a pseudo run cannot be taken over.

    Args:
      held_out: the model's static logits of held-out clips of seen classes.
    """
    scores = scores_of(fit.score, held_out, seen, fit.temperature, fit.weights)
    threshold = float(np.quantile(scores, fit.kept, method="inverted_cdf"))
    return Gate(fit.score, fit.temperature, threshold, fit.weights)


def fit_gate(name: str, runs: Sequence[PseudoClips]) -> GateFit:
    """The temperature and the share of held-out seen clips to keep that have the highest `H`.

    The clips of all runs are taken together, each by its rank among the held-out seen clips of its
    run. Every share that differs in effect is tried. Of equally good ones the middle is taken: of
    the temperatures first, then of the shares. Clips that the logistic gate's weights were fitted
    on would look too well separated: its ranks are those of clips held out in turn.

    Args:
      name: one of `adaptation.registry.GATES`.
      runs: of one pseudo split.

    Raises:
      ValueError: unknown name, a run without clips on one of the sides, equal scores of all clips,
        or too few clips for the logistic gate.
    """
    for run in runs:
        if run.of_seen.all() or not run.of_seen.any():
            raise ValueError(
                f"gate {name!r}: expected clips of seen and of pseudo-unseen classes to fit it on, "
                f"got {run.of_seen.sum()} and {(~run.of_seen).sum()}"
            )
    temperatures = TEMPERATURES if name != "stacking" else (1.0,)
    ranks = np.stack([_ranks(name, runs, temperature) for temperature in temperatures])
    of_seen = np.concatenate([run.of_seen for run in runs])
    harmonic = _harmonics(ranks, np.concatenate([_hits(run) for run in runs]), of_seen)
    if harmonic.max() < 0:
        raise ValueError(f"gate {name!r}: all {len(of_seen)} clips to fit it on score the same")
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
    """The share of a run's held-out seen clips that score lower, for each clip of all runs."""
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
    """The inputs of the logistic gate for the clips of all runs, and which are pseudo-unseen."""
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
    """The logistic gate's scores of each run's clips, held out in turn.

    The runs have the same clips: a clip is held out of all of them at once.
    """
    folds = np.concatenate([folds_of(~run.of_seen) for run in runs])
    scores = held_out_scores(*_logistic_task(runs, temperature), folds)
    return np.split(scores, np.cumsum([len(run.labels) for run in runs])[:-1])


def _hits(run: PseudoClips) -> Bool[np.ndarray, " N"]:
    """Whether a clip is recognised on its own side."""
    own_side = np.where(run.of_seen[:, None] == run.seen, run.logits, -np.inf)
    return own_side.argmax(axis=1) == run.labels


def _harmonics(
    ranks: Float[np.ndarray, "grid N"],
    hits: Bool[np.ndarray, " N"],
    of_seen: Bool[np.ndarray, " N"],
) -> Float[np.ndarray, "grid N-1"]:
    """`H` with the threshold between neighbouring ranks; -1 between equal ones."""
    order = np.argsort(ranks, axis=1)
    ordered = np.take_along_axis(ranks, order, axis=1)
    below = np.cumsum((hits & of_seen)[order], axis=1)[:, :-1]  # recognised, sent to seen
    unseen_hits = hits & ~of_seen
    above = unseen_hits.sum() - np.cumsum(unseen_hits[order], axis=1)[:, :-1]
    harmonic = harmonic_mean(below / of_seen.sum(), above / (~of_seen).sum())
    return np.where(ordered[:, :-1] < ordered[:, 1:], harmonic, -1.0)


def _middle(ascending: np.ndarray) -> int:
    return int(ascending[(len(ascending) - 1) // 2])
