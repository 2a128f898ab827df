"""Stacking: weights of a mixture by the densities of held-out targets, and those of the network."""

import numpy as np
from sklearn.model_selection import KFold

from tabattn.contract.columns import Floats
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.estimator.arguments import Run
from tabattn.prior.estimator.number_ensemble import draw_numbers, pooled
from tabattn.prior.estimator.reader import Reader

ROUNDS = 100
"""Rounds of the EM algorithm for the weights."""

FOLDS = 5
"""Folds from which the network's densities are held out."""

MEMBERS = 2
"""Most members of the network there."""


def stacked(scores: Floats) -> Floats:
    """Weights of a mixture with the largest density of held-out targets, by expectation maximisation.

    Args:
        scores: Log-density of each target by each part, ``(rows, parts)``.

    Returns:
        ``(parts,)``.
    """
    density = np.exp(scores - scores.max(1, keepdims=True))
    weights = np.full(scores.shape[1], 1 / scores.shape[1])
    for _ in range(ROUNDS):
        shares = density * weights
        # One row more for each part, so that few rows do not decide alone.
        counts = 1 + (shares / shares.sum(1, keepdims=True)).sum(0)
        weights = counts / counts.sum()
    return weights


def held_out(network: ContextClassifier, x: Floats, y: Floats, run: Run, seed: int) -> Floats:
    """Log-density of each target by the network, given the rows of the other folds, ``(rows,)``.

    Args:
        network: The network.
        x: Rows, ``(rows, features)``; NaN = missing. At least 2.
        y: Their targets, ``(rows,)``.
        run: Settings of the predictions.
        seed: Seed of the folds and of the ensemble members.
    """
    once = run._replace(cache=False)
    found = np.zeros(len(y))
    for context, rest in KFold(min(FOLDS, len(y)), shuffle=True, random_state=seed).split(x):
        ensemble = draw_numbers(y[context], x.shape[1], min(run.members, MEMBERS), len(context), seed)
        logits = Reader(network, x[context], y[context], ensemble).logits(x[rest], once)
        found[rest] = pooled(logits, ensemble.questions).log_density(y[rest])
    return found
