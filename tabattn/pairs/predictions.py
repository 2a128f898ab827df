"""Prediction table: one line for each target."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from tabattn.contract.batches import PairBatch
from tabattn.contract.views import ScoredColumn
from tabattn.pairs.mixtures import LEVELS
from tabattn.pairs.trajectories import Trajectories


def prediction_table(
    found: Trajectories, names: Sequence[str] | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, list[Any]]:
    """Convert the trajectories of a batch to the columns of a table.

    Args:
        found: Trajectories of the batch.
        names: Names of the sequences; None = their indices.
        mean: Mean that standardisation subtracted from each sequence; None = 0.
        std: Standard deviation that it divided by; None = 1.

    Returns:
        Columns: ``task``, its number in the data, or in the batch if it has none; ``member``; ``x``; ``y``, empty if
        unknown; ``mean``; ``sample_<n>``; ``quantile_<level>``. Values are in the units of the data. Padding has no
        line.
    """
    batch, first = found.batch, found.batch.context
    member = batch.member[:, first:]
    kept = torch.ones_like(member, dtype=torch.bool) if batch.padding is None else ~batch.padding[:, first:]
    tasks = batch.task if batch.task is not None else torch.arange(len(member), device=member.device)

    def column(values: Tensor) -> list[Any]:
        if mean is not None and std is not None:
            values = values * member.new_tensor(std, dtype=torch.double)[member]
            values = values + member.new_tensor(mean, dtype=torch.double)[member]
        return values[kept].tolist()

    columns: dict[str, list[Any]] = {
        "task": tasks[:, None].expand_as(member)[kept].tolist(),
        "member": [names[each] if names else each for each in member[kept].tolist()],
        "x": batch.x[:, first:][kept].tolist(),
        "y": column(batch.y[:, first:]),
    }
    if found.mean is not None:
        columns["mean"] = column(found.mean)
    columns |= {f"sample_{number}": column(sample) for number, sample in enumerate(found.samples)}
    return columns | {
        f"quantile_{level:g}": column(values) for level, values in zip(LEVELS, found.quantiles, strict=True)
    }


def outcomes(batch: PairBatch, given: Distribution, names: Sequence[str] | None) -> list[ScoredColumn]:
    """Truth and predictions of the scored targets of a batch, by sequence.

    Args:
        batch: The batch.
        given: Density of each target, ``(batch, targets)``.
        names: Names of the sequences; None = ``sequence <n>``.
    """
    y, member = batch.y[:, batch.context :], batch.member[:, batch.context :]
    scored = y.isfinite()
    mean, below = given.mean, given.cdf(torch.where(scored, y, 0.0))
    found = []
    for number in member[scored].unique().tolist():
        chosen = scored & (member == number)
        name = names[number] if names else f"sequence {number}"
        found.append(ScoredColumn(name, (), *(part[chosen].double().cpu() for part in (y, mean, below))))
    return found
