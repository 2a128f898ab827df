"""Baselines of sequences: a normal of the visible values of each sequence, and interpolation between them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Normal

from tabattn.contract.batches import PairBatch
from tabattn.pairs.metrics import PairScores

Values = NDArray[np.float64]
Predict = Callable[[Values, Values, Values], tuple[Values, Values]]
"""Function of the locations and values of visible points, in order, and of the locations of targets: the means of the
targets, and their variances up to a factor that all targets of a batch share."""

LEAST = 1e-3
"""Least standard deviation, as a share of that of the data."""


def marginal(x: Values, y: Values, asked: Values) -> tuple[Values, Values]:
    """Normal with the mean of the visible values."""
    return np.full(len(asked), y.mean()), np.full(len(asked), 1 + 1 / len(y))


def bridge(x: Values, y: Values, asked: Values) -> tuple[Values, Values]:
    """Brownian bridge: linear interpolation between the nearest visible points, and outside of them the last value."""
    after = np.searchsorted(x, asked)
    left = np.where(after > 0, asked - x[np.maximum(after - 1, 0)], np.inf)
    right = np.where(after < len(x), x[np.minimum(after, len(x) - 1)] - asked, np.inf)
    inside = np.isfinite(left) & np.isfinite(right)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = np.nan_to_num(left * right / (left + right))
    return np.interp(asked, x, y), np.where(inside, between, np.minimum(left, right))


MODELS: Mapping[str, Predict] = {"normal of each sequence": marginal, "linear interpolation": bridge}


def score(name: str, data: Any, batches: Iterable[PairBatch], stage: str) -> dict[str, float]:
    """Score a method as the task scores a network.

    Args:
        name: One of ``MODELS``.
        data: The datamodule.
        batches: Its batches for evaluation.
        stage: ``val`` or ``test``.
    """
    scaling, metric = data.scaling, PairScores(data.members)
    for batch in batches:
        given = predict(MODELS[name], batch, float(scaling.y_mean), float(scaling.y_std))
        metric.update(batch._replace(oracle=None), given, None, (float(scaling.x_low), float(scaling.x_high)))
    return {f"{stage}/{name}": value for name, value in metric.compute().items()}


def predict(method: Predict, batch: PairBatch, mean: float, std: float) -> Normal:
    """Normal density of each target; the shared factor of the variances is fitted to visible points that are left out.

    Args:
        method: The method.
        batch: The tasks.
        mean: Mean of all values, for sequences without any visible point.
        std: Their standard deviation.
    """
    x, y, member = (part.double().numpy() for part in (batch.x, batch.y, batch.member))
    known = np.isfinite(y) if batch.padding is None else np.isfinite(y) & ~batch.padding.numpy()
    known[:, batch.context :] = False
    means = np.full((len(x), x.shape[1] - batch.context), mean)
    variances, fitted, ratios = np.full(means.shape, std**2), np.zeros(means.shape, dtype=bool), []
    for task in range(len(x)):
        for each in np.unique(member[task, batch.context :]):
            own = np.flatnonzero(known[task] & (member[task] == each))
            if not len(own):
                continue
            own = own[np.argsort(x[task, own], kind="stable")]
            told, asked = (x[task, own], y[task, own]), member[task, batch.context :] == each
            means[task, asked], variances[task, asked] = method(*told, x[task, batch.context :][asked])
            fitted[task, asked] = True
            ratios.append(_ratios(method, *told))
    pooled = np.concatenate(ratios) if ratios else np.empty(0)
    variances[fitted] *= pooled.mean() if len(pooled) else std**2
    stds = np.sqrt(variances).clip(min=LEAST * std)
    return Normal(torch.from_numpy(means).float(), torch.from_numpy(stds).float())


def _ratios(method: Predict, x: Values, y: Values) -> Values:
    """Squared error of each visible point, predicted from the others, over its variance."""
    found = []
    for at in range(len(x) if len(x) > 1 else 0):
        mean, variance = method(np.delete(x, at), np.delete(y, at), x[at : at + 1])
        if variance[0] > 0:
            found.append((y[at] - mean[0]) ** 2 / variance[0])
    return np.array(found)
