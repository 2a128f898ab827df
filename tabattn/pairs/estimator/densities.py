"""Predictions of ``SequenceInferrer``: densities and trajectories of the targets of tasks, in the units of the data."""

import warnings
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily

from tabattn.contract.batches import PairBatch
from tabattn.nn.densities import mixture
from tabattn.pairs.beyond import about_beyond
from tabattn.pairs.estimator.observed import Floats, Observed, as_tensors
from tabattn.pairs.mixtures import components, quantiles
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.options import InferenceOptions
from tabattn.pairs.trajectories import trajectories

TASKS = 32
"""Most tasks of a forward pass."""


class Scale(NamedTuple):
    """Affine maps to the units of a network, for each task.

    Attributes:
        start: Location that becomes the lower end of the axis, ``(tasks,)``.
        low: Lower end of the axis.
        unit: Length in the data's units that is 1 on the axis, ``(tasks,)``.
        mean: Value of each sequence that becomes 0, ``(tasks, members)``.
        std: Difference of values that becomes 1, ``(tasks, members)``.
    """

    start: Tensor
    low: float
    unit: Tensor
    mean: Tensor
    std: Tensor


class Asked(NamedTuple):
    """Tasks with context and targets, in the units of a network.

    Attributes:
        batch: The tasks: context before targets, padded.
        row: Place of each target in the order of what was asked, ``(batch, targets)``; -1 = padding.
        mean: Mean to add to each predicted value, ``(batch, targets)``.
        std: Standard deviation to multiply each predicted value by, ``(batch, targets)``.
    """

    batch: PairBatch
    row: Tensor
    mean: Tensor
    std: Tensor


def standard_scale(mean: tuple[float, ...], std: tuple[float, ...], tasks: int) -> Scale:
    """Units learnt by a fit, the same for every task."""
    zero, one = torch.zeros(tasks).double(), torch.ones(tasks).double()
    means, stds = (torch.tensor(part).double().expand(tasks, -1) for part in (mean, std))
    return Scale(zero, 0.0, one, means, stds)


def own_scale(network: PairNetwork, known: Observed, targets: pd.DataFrame, unit: float | None, level: str) -> Scale:
    """Units of each task from its own observations, for a network that was trained on other data.

    Locations are mapped so that those of the task fill the axis, or by ``unit``. Values are divided by their standard
    deviation within sequences, and have the mean subtracted: that of the sequence, or of the task.

    Args:
        network: The network.
        known: What is observed.
        targets: What is asked.
        unit: Length in the data's units that is 1 on the network's axis; None = by the extent of the task.
        level: Which mean is subtracted: ``sequence``, for kinds whose sequences have levels of their own, or ``task``.
    """
    low, high, *_ = network.scaling
    tasks, members = len(known.labels), len(known.names)
    seen = known.table[np.isfinite(known.table["y"])]
    ends = pd.concat([seen, targets]).groupby("task")["x"].agg(["min", "max"]).reindex(range(tasks)).fillna(0.0)
    width = ((ends["max"] - ends["min"]) / (high - low)).to_numpy()
    units = np.where(width > 0, width, 1.0) if unit is None else np.full(tasks, unit)
    whole = seen.groupby("task")["y"].mean().reindex(range(tasks)).fillna(0.0).to_numpy()[:, None]
    index = pd.MultiIndex.from_product([range(tasks), range(members)])
    own = seen.groupby(["task", "member"])["y"].mean().reindex(index).to_numpy().reshape(tasks, members)
    own = np.where(np.isfinite(own), own, whole)
    off = seen["y"].to_numpy() - own[seen["task"], seen["member"]]
    spread = np.sqrt(pd.Series(off**2).groupby(seen["task"].to_numpy()).mean().reindex(range(tasks)).fillna(0.0))
    std = np.where(spread > 0, spread, 1.0)[:, None].repeat(members, 1)
    mean = own if level == "sequence" else whole.repeat(members, 1)
    parts = (torch.from_numpy(np.array(part, dtype=np.float64)) for part in (ends["min"], units, mean, std))
    start, scale, means, stds = parts
    return Scale(start, low, scale, means, stds)


def asked_tasks(known: Observed, targets: pd.DataFrame, scale: Scale) -> Iterator[Asked]:
    """Yield batches of tasks with targets, in the order of tasks; those without a target are left out."""
    groups = dict(list(targets.groupby("task")))
    seen = dict(list(known.table[np.isfinite(known.table["y"])].groupby("task")))
    tasks = sorted(groups)
    for first in range(0, len(tasks), TASKS):
        chosen = tasks[first : first + TASKS]
        empty = known.table.iloc[:0]
        yield _batch([(number, seen.get(number, empty), groups[number]) for number in chosen], scale)


def _batch(parts: list[tuple[int, pd.DataFrame, pd.DataFrame]], scale: Scale) -> Asked:
    context = max(len(seen) for _, seen, _ in parts)
    points = context + max(len(asked) for *_, asked in parts)
    shape = len(parts), points
    x, y = torch.zeros(shape, dtype=torch.double), torch.full(shape, torch.nan, dtype=torch.double)
    member, padding = torch.zeros(shape, dtype=torch.long), torch.ones(shape, dtype=torch.bool)
    row, mean, std = torch.full(shape, -1), torch.zeros_like(x), torch.ones_like(x)
    for place, (number, seen, asked) in enumerate(parts):
        for frame, first in ((seen, 0), (asked, context)):
            own = slice(first, first + len(frame))
            x[place, own], y[place, own], member[place, own] = as_tensors(frame)
            padding[place, own] = False
            mean[place, own], std[place, own] = (part[number, member[place, own]] for part in (scale.mean, scale.std))
            if first == context:
                row[place, own] = torch.from_numpy(frame["row"].to_numpy(dtype=np.int64).copy())
        x[place] = torch.where(padding[place], 0.0, scale.low + (x[place] - scale.start[number]) / scale.unit[number])
    last = x.masked_fill(padding, -torch.inf).amax(1, keepdim=True)
    x = torch.where(padding, last, x)
    y = (y - mean) / std
    batch = PairBatch(x.float(), y.float(), member, context, padding=padding)
    return Asked(batch, row[:, context:], mean[:, context:], std[:, context:])


def warn_beyond(network: PairNetwork, asked: list[Asked]) -> None:
    """Warn of locations outside the range of training."""
    least = min(float(each.batch.x.min()) for each in asked)
    most = max(float(each.batch.x.max()) for each in asked)
    if told := about_beyond(network.scaling, least, most):
        warnings.warn(told, stacklevel=4)


@torch.no_grad()
def predict(network: PairNetwork, asked: list[Asked], device: torch.device) -> MixtureSameFamily:
    """Density of each target given the context alone, in the order of what was asked, in double precision."""
    count = sum(int((each.row >= 0).sum()) for each in asked)
    found: list[Tensor] | None = None
    moved = network.to(device)
    try:
        for each in asked:
            x, y, member = (part.to(device) for part in each.batch[:3])
            density = moved(x, y, member, each.batch.context)
            weights, means, stds = (part.double().cpu() for part in components(density))
            means = means * each.std[..., None] + each.mean[..., None]
            if found is None:
                found = [torch.zeros(count, means.shape[-1], dtype=torch.double) for _ in range(3)]
            kept = each.row >= 0
            for whole, part in zip(found, (weights, means, stds * each.std[..., None]), strict=True):
                whole[each.row[kept]] = part[kept]
    finally:
        network.cpu()
    assert found is not None
    return mixture(found[0].log(), found[1], found[2])


def sample(network: PairNetwork, asked: list[Asked], count: int, seed: int, device: torch.device) -> Floats:
    """Draw trajectories: targets of a task one after another in order of location, each given those drawn before.

    Returns:
        ``(count, targets)``, in the order of what was asked.
    """
    total = sum(int((each.row >= 0).sum()) for each in asked)
    found = torch.zeros(count, total, dtype=torch.double)
    options = InferenceOptions(samples=count, mean=False, path="left_to_right")
    source = torch.Generator(device).manual_seed(seed)
    moved = network.to(device)
    try:
        for each in asked:
            assert each.batch.padding is not None
            x, y, member, padding = (part.to(device) for part in (*each.batch[:3], each.batch.padding))
            batch = each.batch._replace(x=x, y=y, member=member, padding=padding)
            drawn = trajectories(moved, batch, options, source).samples.double().cpu()
            kept = each.row >= 0
            found[:, each.row[kept]] = (drawn * each.std + each.mean)[:, kept]
    finally:
        network.cpu()
    return found.numpy()


def check_levels(given: Any) -> tuple[float, ...]:
    """Probabilities of quantiles.

    Raises:
        ValueError: One is out of bounds, or there is none.
    """
    if not isinstance(given, Iterable) or not (listed := list(given)):
        raise ValueError(f"quantiles must be a list of at least 1 probability, got {given!r}")
    wrong = [level for level in listed if not (isinstance(level, Real) and 0 < float(level) < 1)]
    if wrong:
        raise ValueError(f"quantiles must be above 0 and below 1, got {wrong[0]!r}")
    return tuple(map(float, listed))


def find_quantiles(density: MixtureSameFamily, levels: tuple[float, ...]) -> Floats:
    """Quantiles of densities, ``(targets, levels)``."""
    found = quantiles(*components(density), levels)
    return np.asarray(found.T.numpy())
