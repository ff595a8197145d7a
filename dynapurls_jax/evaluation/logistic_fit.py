"""Fits the logistic gate (`adaptation.logistic_gate`) on clips of pseudo runs."""

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression

FOLDS = 5


def fit_weights(
    inputs: Float[np.ndarray, "N m"], unseen: Bool[np.ndarray, " N"]
) -> tuple[float, ...]:
    """Logistic regression with the published regularisation (C = 1).

    Args:
      inputs: see `logistic_inputs`; `m = 2 k`.
      unseen: which clips are of pseudo-unseen classes; both kinds must occur.

    Returns:
      The weights of the inputs, then the bias.
    """
    model = LogisticRegression(C=1.0, max_iter=5000).fit(inputs, unseen)
    return (*model.coef_[0].tolist(), float(model.intercept_[0]))


def held_out_scores(
    inputs: Float[np.ndarray, "N m"], unseen: Bool[np.ndarray, " N"], folds: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Cross-validated log-odds: the regression for a clip is fitted on all other folds.

    Raises:
      ValueError: the training clips of a fold are all of one side.
    """
    scores = np.empty(len(inputs))
    for fold in np.unique(folds):
        held = folds == fold
        if len(np.unique(unseen[~held])) < 2:
            raise ValueError(
                "gate 'logistic': expected at least two clips of each side for the fit"
            )
        *factors, bias = fit_weights(inputs[~held], unseen[~held])
        scores[held] = inputs[held] @ np.array(factors) + bias
    return scores


def folds_of(unseen: Bool[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The fold of each clip of a run, stratified by side."""
    folds = np.empty(len(unseen), int)
    for side in (unseen, ~unseen):
        folds[side] = np.arange(side.sum()) % FOLDS
    return folds
