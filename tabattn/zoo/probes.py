"""Probes: how well properties of networks are read off their embeddings, beside statistics of their weights."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tabattn.contract.graphs import BIASED, WEIGHTED
from tabattn.contract.networks import NeuronTokens

PENALTIES = tuple(10.0**power for power in range(-2, 5))
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class ProbeScore(NamedTuple):
    """How well a property is predicted: R2 of a number, accuracy of a class, over all folds together.

    Attributes:
        name: Name of the property.
        score: ``R2`` or ``accuracy``.
        embedding: By embeddings.
        statistics: By statistics of weights.
        task: By the task that the network was trained on.
        statistics_and_task: By both.
        chance: By the mean, which is 0, or the most frequent class.
    """

    name: str
    score: str
    embedding: float
    statistics: float
    task: float
    statistics_and_task: float
    chance: float


def probe(
    embeddings: Tensor | NDArray[np.floating],
    tokens: NeuronTokens,
    task: NDArray[np.int64],
    properties: Mapping[str, NDArray[np.generic]],
    groups: NDArray[np.int64] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> list[ProbeScore]:
    """Probe embeddings by ridge regression, beside baselines in the same folds.

    Args:
        embeddings: Embeddings, ``(networks, width)``.
        tokens: The networks, whose weights the statistics are of.
        task: Number of each network's task, ``(networks,)``.
        properties: Properties by name, ``(networks,)``: floating point numbers, or classes of any other type.
        groups: Networks of one group, such as checkpoints of one run, are in one fold; none = each is of its own.
        folds: Number of folds.
        seed: Seed of the folds.

    Raises:
        ValueError: The arrays have different lengths.
    """
    points = embeddings.detach().cpu().numpy() if isinstance(embeddings, Tensor) else embeddings
    lengths = [len(points), len(tokens.mask), len(task), *map(len, properties.values())]
    if len(set(lengths)) > 1:
        raise ValueError(f"embeddings, networks, tasks and properties must be as many, got {lengths}")
    statistics = weight_statistics(tokens).cpu().numpy()
    of_task = (np.asarray(task)[:, None] == np.unique(task)).astype(float)
    inputs = points, statistics, of_task, np.hstack([statistics, of_task])
    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    splits = list(splitter.split(points, groups=np.arange(len(points)) if groups is None else groups))
    found = []
    for name, values in properties.items():
        values = np.asarray(values)
        numeric = values.dtype.kind == "f"
        own, one, two, both = (_score(each, values, splits, numeric) for each in inputs)
        chance = 0.0 if numeric else float(np.unique(values, return_counts=True)[1].max() / len(values))
        found.append(ProbeScore(name, "R2" if numeric else "accuracy", own, one, two, both, chance))
    return found


def weight_statistics(tokens: NeuronTokens) -> Tensor:
    """Statistics of weights, a baseline of embeddings (Unterthiner et al. 2020): ``(networks, statistics)``.

    Of all weights, all biases, and the weights of each level: mean, standard deviation and quantiles; and the number of
    vertices of each level.
    """
    levels = int(tokens.level.max()) if tokens.level.numel() else 0
    weighted = tokens.edge & ((tokens.flags & WEIGHTED) > 0)[:, :, None]
    biased = ((tokens.flags & BIASED) > 0) & tokens.mask
    parts = [_moments(tokens.weight.flatten(1), weighted.flatten(1)), _moments(tokens.bias, biased)]
    for level in range(1, levels + 1):
        own = weighted & (tokens.level == level)[:, :, None]
        parts.append(_moments(tokens.weight.flatten(1), own.flatten(1)))
    sizes = [((tokens.level == level) & tokens.mask).sum(1, keepdim=True) for level in range(levels + 1)]
    return torch.cat([*parts, *(size.float() for size in sizes)], dim=1)


def _moments(values: Tensor, present: Tensor) -> Tensor:
    """Mean, standard deviation and quantiles of the values that are present; 0 where none is."""
    count = present.sum(1, keepdim=True)
    kept = torch.where(present, values, 0.0)
    mean = kept.sum(1, keepdim=True) / count.clamp(min=1)
    variance = torch.where(present, values - mean, 0.0).square().sum(1, keepdim=True) / count.clamp(min=1)
    ordered = torch.where(present, values, torch.inf).sort(dim=1).values
    places = (torch.tensor(QUANTILES, device=values.device) * (count - 1).clamp(min=0)).round().long()
    return torch.cat([mean, variance.sqrt(), ordered.gather(1, places)], dim=1).masked_fill(count == 0, 0.0)


def _score(
    x: NDArray[np.floating],
    values: NDArray[np.generic],
    splits: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    numeric: bool,
) -> float:
    """R2 or accuracy of ridge regression, whose penalty is chosen within the training folds."""
    predicted = np.empty_like(values)
    for train, test in splits:
        ridge = RidgeCV(PENALTIES) if numeric else RidgeClassifierCV(PENALTIES)
        if len(np.unique(values[train])) < 2:
            predicted[test] = values[train][0]
            continue
        predicted[test] = make_pipeline(StandardScaler(), ridge).fit(x[train], values[train]).predict(x[test])
    return float(r2_score(values, predicted) if numeric else (values == predicted).mean())
